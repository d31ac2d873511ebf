"""JetStream publishes by many callers, one push consumer with explicit acks: `nats_load.py PORT CALLERS SECONDS`.

A message counts when its publish was acknowledged and the consumer has it. How durable an acknowledged message is,
is the server's setting.
"""

import asyncio
import json
import sys
import time

import nats
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StorageType, StreamConfig

BODY = b"x" * 150
SESSIONS = 256
STREAM = "MAIL"


async def main(port: int, callers: int, seconds: float) -> None:
    sender = await nats.connect(f"nats://127.0.0.1:{port}")
    receiver = await nats.connect(f"nats://127.0.0.1:{port}")
    stream = sender.jetstream()
    await stream.add_stream(StreamConfig(name=STREAM, subjects=["mail.>"], storage=StorageType.FILE))
    sent = got = 0

    async def take(message: Msg) -> None:
        nonlocal got
        got += 1
        await message.ack()

    consumer = ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, deliver_policy=DeliverPolicy.NEW, max_ack_pending=5000)
    await receiver.jetstream().subscribe("mail.>", cb=take, manual_ack=True, config=consumer)
    start = time.perf_counter()
    end = start + seconds

    async def send() -> None:
        nonlocal sent
        while time.perf_counter() < end:
            sent += 1
            await stream.publish(f"mail.{sent % SESSIONS}", BODY)

    await asyncio.gather(*(send() for _ in range(callers)))
    async with asyncio.timeout(30):
        while got < sent:  # noqa: ASYNC110 - a thousandth of the time measured
            await asyncio.sleep(0.001)
    elapsed = time.perf_counter() - start
    print(json.dumps({"rate": got / elapsed, "sent": sent}), flush=True)
    await stream.delete_stream(STREAM)
    await sender.close()
    await receiver.close()


asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
