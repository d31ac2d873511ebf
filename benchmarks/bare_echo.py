"""The bare limit: a grpc.aio server that parses a draft and answers a receipt, with no chain, store or delivery.

`python -m benchmarks.bare_echo PORT` prints READY when it serves.
"""

import asyncio
import sys

import grpc

from mobot.router.v1 import message_pb2, router_service_pb2


async def echo(
    request: router_service_pb2.SendMessageRequest,
    _: "grpc.aio.ServicerContext[object, object]",
) -> router_service_pb2.SendMessageResponse:
    return router_service_pb2.SendMessageResponse(
        receipt=message_pb2.Receipt(run=request.message.idempotency_key, session=request.message.session)
    )


async def main(port: int) -> None:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handler = grpc.unary_unary_rpc_method_handler(
        echo,  # type: ignore[arg-type]
        request_deserializer=router_service_pb2.SendMessageRequest.FromString,
        response_serializer=router_service_pb2.SendMessageResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("mobot.router.v1.RouterService", {"SendMessage": handler}),)
    )
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    print("READY", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
