"""A publisher or a consumer of a NATS broker, by the protocol's own words.

    nats.py publisher|consumer HOST:PORT
"""

import socket
import sys
import time

SUBJECT = "greetings"


def connect(address):
    """Greets the broker, which speaks first, and waits until it has answered."""
    host, port = address.rsplit(":", 1)
    stream = socket.create_connection((host, int(port)), timeout=30).makefile("rwb")
    print(stream.readline().decode().split(" ", 1)[0], flush=True)
    send(stream, 'CONNECT {"verbose":false}', "PING")
    expect(stream, b"PONG")
    return stream


def send(stream, *lines):
    stream.write("".join(line + "\r\n" for line in lines).encode())
    stream.flush()


def expect(stream, word):
    while not (line := stream.readline()).startswith(word):
        if not line:
            raise ConnectionError("the broker has closed the connection")
        if line.startswith(b"PING"):
            send(stream, "PONG")
        if line.startswith(b"-ERR"):
            raise ConnectionError(line.decode())


def publish(stream):
    number = 0
    while True:
        number += 1
        text = f"hello {number}"
        send(stream, f"PUB {SUBJECT} {len(text)}", text, "PING")
        expect(stream, b"PONG")
        print("sent", text, flush=True)
        time.sleep(1)


def consume(stream):
    send(stream, f"SUB {SUBJECT} 1")
    while True:
        expect(stream, b"MSG")
        print("got", stream.readline().decode().strip(), flush=True)


def main(role, address):
    act = {"publisher": publish, "consumer": consume}[role]
    while True:
        try:
            act(connect(address))
        except OSError as error:
            print("again in a second:", error, flush=True)
            time.sleep(1)


main(*sys.argv[1:])
