"""Publishes with confirms and consumes with acknowledgements; or, with `restart`, a life through
the broker's restart."""
import sys
import time

import pika
from pika.exceptions import AMQPConnectionError


def connect(host):
    # No attempts of its own: each one is ours to see.
    return pika.BlockingConnection(pika.ConnectionParameters(
        host, connection_attempts=1, blocked_connection_timeout=15, socket_timeout=10))


def publish(channel, queue, body):
    persistent = pika.BasicProperties(delivery_mode=2)
    channel.basic_publish("", queue, body, persistent, mandatory=True)


def talk(host):
    connection = connect(host)
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare("orders", durable=True)
    for number in range(10):
        publish(channel, "orders", str(number))
    print("confirmed 10")
    seen = []
    for method, _, body in channel.consume("orders", inactivity_timeout=10):
        seen.append(body.decode())
        channel.basic_ack(method.delivery_tag)
        if len(seen) == 10:
            break
    connection.close()
    # What was not acknowledged is back in the queue once its connection is gone.
    connection = connect(host)
    left = connection.channel().queue_declare("orders", passive=True).method.message_count
    print("consumed", ",".join(seen), "left", left)
    connection.close()


def live(host):
    connection = connect(host)
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare("kept", durable=True)
    publish(channel, "kept", "before")
    print("connected", flush=True)
    try:
        while True:
            connection.process_data_events(time_limit=1)
    except AMQPConnectionError as error:
        print("lost", type(error).__name__, flush=True)
    said = None
    while True:
        try:
            connection = connect(host)
            break
        except (AMQPConnectionError, OSError) as error:
            if type(error).__name__ != said:
                said = type(error).__name__
                print("down", said, flush=True)
            time.sleep(0.1)
    print("reconnected", flush=True)
    channel = connection.channel()
    _, _, body = channel.basic_get("kept", auto_ack=True)
    print("kept", body.decode(), flush=True)


(live if sys.argv[2:] == ["restart"] else talk)(sys.argv[1])
