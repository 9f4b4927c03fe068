"""A gRPC server of all four kinds of call; messages are plain text."""
import sys
from concurrent import futures

import grpc


def unary(request, context):
    metadata = dict(context.invocation_metadata())
    context.set_trailing_metadata((("x-trailer", "at the end"),))
    return "hello " + request + " " + metadata.get("x-who", "")


def server_stream(request, context):
    for number in range(int(request)):
        yield str(number)
    context.abort(grpc.StatusCode.OUT_OF_RANGE, "no more")


def client_stream(requests, context):
    return ",".join(requests)


def both(requests, context):
    for request in requests:
        yield request.upper()


def text(message):
    return message.encode()


def handler(kind, function):
    return kind(function, request_deserializer=bytes.decode, response_serializer=text)


methods = {
    "Unary": handler(grpc.unary_unary_rpc_method_handler, unary),
    "ServerStream": handler(grpc.unary_stream_rpc_method_handler, server_stream),
    "ClientStream": handler(grpc.stream_unary_rpc_method_handler, client_stream),
    "Both": handler(grpc.stream_stream_rpc_method_handler, both),
}
server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", methods),))
assert server.add_insecure_port("[::]:" + sys.argv[1])
server.start()
server.wait_for_termination()
