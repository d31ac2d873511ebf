"""`send_message` between two worker runtimes of AutoGen: `autogen_load.py ADDRESS CALLERS SECONDS`.

The answer is awaited, so a message counts when its receiver has answered.
"""

import asyncio
import json
import logging
import sys
import time
from dataclasses import dataclass

from autogen_core import AgentId, MessageContext, RoutedAgent, message_handler, try_get_known_serializers_for_type
from autogen_ext.runtimes.grpc import GrpcWorkerAgentRuntime

BODY = "x" * 150
SESSIONS = 256


@dataclass
class Mail:
    body: str
    number: int


@dataclass
class Answer:
    number: int


class Receiver(RoutedAgent):
    def __init__(self) -> None:
        super().__init__("receiver")

    @message_handler
    async def take(self, message: Mail, ctx: MessageContext) -> Answer:  # noqa: ARG002 - the framework's signature
        return Answer(message.number)


async def main(address: str, callers: int, seconds: float) -> None:
    logging.disable(logging.CRITICAL)
    sender, receiver = GrpcWorkerAgentRuntime(address), GrpcWorkerAgentRuntime(address)
    for runtime in (sender, receiver):
        await runtime.start()
        for kind in (Mail, Answer):
            runtime.add_message_serializer(try_get_known_serializers_for_type(kind))
    await Receiver.register(receiver, "receiver", Receiver)
    await sender.send_message(Mail(BODY, 0), AgentId("receiver", "s0"))
    sent = 0
    start = time.perf_counter()
    end = start + seconds

    async def call() -> None:
        nonlocal sent
        while time.perf_counter() < end:
            sent += 1
            await sender.send_message(Mail(BODY, sent), AgentId("receiver", f"s{sent % SESSIONS}"))

    await asyncio.gather(*(call() for _ in range(callers)))
    elapsed = time.perf_counter() - start
    print(json.dumps({"rate": sent / elapsed, "sent": sent}), flush=True)
    await sender.stop()
    await receiver.stop()


asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
