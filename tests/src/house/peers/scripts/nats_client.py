"""Core messages, requests and JetStream; or, with `restart`, a life through the broker's restart."""
import asyncio
import sys

import nats


async def talk(url):
    client = await nats.connect(url, allow_reconnect=False)
    inbox = await client.subscribe("greetings")
    await client.publish("greetings", b"hello")
    print("message", (await inbox.next_msg(timeout=10)).data.decode())

    async def answer(message):
        await message.respond(message.data.upper())

    await client.subscribe("service", cb=answer)
    print("request", (await client.request("service", b"ping", timeout=10)).data.decode())

    stream = client.jetstream()
    await stream.add_stream(name="orders", subjects=["orders.*"])
    for number in range(10):
        acknowledged = await stream.publish("orders.new", str(number).encode())
    print("stored", acknowledged.seq)
    consumer = await stream.pull_subscribe("orders.*", "worker")
    seen = []
    for message in await consumer.fetch(10, timeout=10):
        seen.append(message.data.decode())
        await message.ack_sync()
    left = await consumer.consumer_info()
    print("consumed", ",".join(seen), "pending", left.num_pending, "unacknowledged", left.num_ack_pending)
    await client.close()


async def live(url):
    def say(word):
        async def callback(*_):
            print(word, flush=True)
        return callback

    back = asyncio.Event()

    async def reconnected():
        print("reconnected", flush=True)
        back.set()

    async def nothing(_):
        pass

    client = await nats.connect(
        url, error_cb=nothing, reconnect_time_wait=0.1, max_reconnect_attempts=-1,
        disconnected_cb=say("disconnected"), reconnected_cb=reconnected)
    stream = client.jetstream()
    await stream.add_stream(name="kept", subjects=["kept"])
    await stream.publish("kept", b"before")
    inbox = await client.subscribe("after")
    print("connected", flush=True)
    await back.wait()
    # Some attempts may fail while the broker opens its store.
    for _ in range(100):
        try:
            await stream.publish("kept", b"after", timeout=1)
            break
        except nats.errors.Error:
            await asyncio.sleep(0.1)
    await client.publish("after", b"subscribed still")
    print("message", (await inbox.next_msg(timeout=10)).data.decode(), flush=True)
    consumer = await stream.subscribe("kept")
    print("kept", (await consumer.next_msg(timeout=10)).data.decode(), flush=True)


asyncio.run((live if sys.argv[2:] == ["restart"] else talk)(sys.argv[1]))
