"""Makes one call of each kind and prints what came; or, with a number, the microseconds from a
new channel to the first answer, that many times."""
import queue
import sys
import time

import grpc


def text(message):
    return message.encode()


def call(kind, method):
    return kind("/test.Echo/" + method, request_serializer=text, response_deserializer=bytes.decode)


def all_kinds(target):
    channel = grpc.insecure_channel(target)
    unary = call(channel.unary_unary, "Unary")
    answer, ended = unary.with_call("world", metadata=(("x-who", "me"),), timeout=15)
    print("unary", answer, dict(ended.trailing_metadata())["x-trailer"])

    answers = []
    try:
        for answer in call(channel.unary_stream, "ServerStream")("3", timeout=15):
            answers.append(answer)
    except grpc.RpcError as error:
        print("server stream", answers, error.code().name, error.details())

    print("client stream", call(channel.stream_unary, "ClientStream")(iter("abc"), timeout=15))

    # Each answer is read before the next word is sent: nothing may be held back.
    words = queue.Queue()
    answers = call(channel.stream_stream, "Both")(iter(words.get, None), timeout=15)
    for word in ["one", "two", "three"]:
        words.put(word)
        print("both", next(answers))
    words.put(None)
    print("end", next(answers, "of stream"), answers.code().name)


def first_answers(target, times):
    for _ in range(times):
        options = (("grpc.use_local_subchannel_pool", 1),)
        started = time.perf_counter()
        with grpc.insecure_channel(target, options=options) as channel:
            call(channel.unary_unary, "Unary")("x", timeout=15)
            print(round((time.perf_counter() - started) * 1e6))


if len(sys.argv) > 2:
    first_answers(sys.argv[1], int(sys.argv[2]))
else:
    all_kinds(sys.argv[1])
