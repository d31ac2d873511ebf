"""A worker on plain JetStream: `python -m ledger.peers.jetstream_worker PORT FILE`.

It writes down each effect as it happens, which is all there is to see: JetStream keeps no log of what was done with a
message.
"""

import asyncio
import os
import sys
from pathlib import Path

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error
from nats.js.api import AckPolicy, ConsumerConfig

from ledger.peers.jetstream_names import ACK_WAIT_S, CONSUMER, SUBJECTS

_PIECES = 4


async def main(port: int, file: Path) -> None:
    effects = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    client: Client = await nats.connect(f"nats://127.0.0.1:{port}", max_reconnect_attempts=-1, reconnect_time_wait=0.1)
    stream = client.jetstream()

    def note(what: str, message: Msg, outcome: str = "") -> None:
        place = message.subject.partition(".")[2]
        number = message.data.decode().partition("#")[2]
        os.write(effects, f"{place} {what} {number} {outcome}\n".encode())

    async def work(message: Msg) -> None:
        kind = message.data.decode().partition(" ")[0]
        if kind == "flaky" and message.metadata.num_delivered == 1:
            await message.nak(delay=0.02)
            return
        note("mail", message)
        for _ in range(_PIECES):
            await asyncio.sleep(0.005)
        note("answer", message)
        note("end", message, "FAILED" if kind == "broken" else "SUCCEEDED")
        await message.ack()

    consumer = ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, ack_wait=ACK_WAIT_S, max_ack_pending=200)
    while True:
        try:
            await stream.subscribe(
                SUBJECTS, queue=CONSUMER, durable=CONSUMER, cb=work, manual_ack=True, config=consumer
            )
            break
        except (Error, TimeoutError):
            await asyncio.sleep(0.1)  # a client's pause: the server may be down at this moment
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2])))
