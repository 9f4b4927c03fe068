"""Publishes with confirms and consumes with acknowledgements; or, with `restart`, a life through
the broker's restart."""
import sys
import time

import pika
from pika.exceptions import AMQPConnectionError

QUEUE = "orders"


def connect(host):
    # No attempts of its own: each one is ours to see.
    return pika.BlockingConnection(pika.ConnectionParameters(
        host, connection_attempts=1, blocked_connection_timeout=15, socket_timeout=10))


def declare(connection):
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare(QUEUE, durable=True)
    return channel


def publish(channel, body):
    persistent = pika.BasicProperties(delivery_mode=2)
    channel.basic_publish("", QUEUE, body, persistent, mandatory=True)


def talk(host):
    connection = connect(host)
    channel = declare(connection)
    for number in range(10):
        publish(channel, str(number))
    print("confirmed 10")
    seen = []
    for method, _, body in channel.consume(QUEUE, inactivity_timeout=10):
        seen.append(body.decode())
        channel.basic_ack(method.delivery_tag)
        if len(seen) == 10:
            break
    connection.close()
    # What was not acknowledged is back in the queue once its connection is gone.
    connection = connect(host)
    left = connection.channel().queue_declare(QUEUE, passive=True).method.message_count
    print("consumed", ",".join(seen), "left", left)
    connection.close()


def live(host):
    connection = connect(host)
    publish(declare(connection), "before")
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
    # Declared again: what a killed broker had confirmed and not yet written, the queue as well as
    # the message, is gone.
    channel = declare(connection)
    publish(channel, "after")
    print("published", flush=True)
    for _, _, body in channel.consume(QUEUE, auto_ack=True, inactivity_timeout=10):
        if body in (b"after", None):
            print("consumed" if body else "nothing", flush=True)
            break


(live if sys.argv[2:] == ["restart"] else talk)(sys.argv[1])
