"""The bare limit of durable mail: batches in, one fsync'd group commit, batches out on one stream.

No identity, no leases, no fate: what a stack of grpc.aio and SQLite can do at most in this shape. `transcript` adds the
rows that our mail writes: two events in a second, flushed file before the delivery, and at the completion the message's
end and a third event, with the same keys, but nothing that is decided about them.
`python -m benchmarks.bare_mailbox PORT FILE [transcript]` prints READY when it serves.
"""

import asyncio
import queue
import sqlite3
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator

import grpc

from mobot.router.v1 import message_pb2, router_service_pb2


class _Transcript:
    """Events of sessions, in a file of their own. Belongs to the thread that writes."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._sequences: dict[str, int] = {}
        self._sessions: dict[str, str] = {}

    def write(self, drafts: list[message_pb2.MessageDraft], ended: list[str]) -> None:
        connection = self._connection or self._open()
        rows = [self._row(self._sessions.pop(run, ""), f"run/{run}/finished", run, b"") for run in ended]
        for draft in drafts:
            run = draft.idempotency_key
            self._sessions[run] = draft.session
            rows.append(self._row(draft.session, f"message/{run}", run, draft.SerializeToString()))
            rows.append(self._row(draft.session, f"run/{run}/started/1", run, b""))
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO event(session, sequence, event_id, run, body) VALUES(?, ?, ?, ?, ?)", rows)
        connection.execute("COMMIT")

    def _row(self, session: str, event_id: str, run: str, body: bytes) -> tuple[str, int, str, str, bytes]:
        sequence = self._sequences[session] = self._sequences.get(session, 0) + 1
        return session, sequence, event_id, run, body

    def _open(self) -> sqlite3.Connection:
        connection = self._connection = sqlite3.connect(self._path, isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(
            "CREATE TABLE event(position INTEGER PRIMARY KEY, session TEXT, sequence INT, event_id TEXT, run TEXT, "
            "body BLOB, UNIQUE(session, sequence), UNIQUE(session, event_id))"
        )
        return connection


class BareMailbox:
    """One writer thread, one subscriber."""

    def __init__(self, path: str, loop: asyncio.AbstractEventLoop, *, transcript: bool) -> None:
        self._loop = loop
        self._transcript = _Transcript(f"{path}.transcript") if transcript else None
        self._ended: deque[str] = deque()
        self._pending: queue.SimpleQueue[tuple[list[message_pb2.MessageDraft], asyncio.Queue[int]]] = (
            queue.SimpleQueue()
        )
        self._delivered: asyncio.Queue[list[message_pb2.MessageDraft]] = asyncio.Queue(10_000)
        self._path = path
        threading.Thread(target=self._write, daemon=True).start()

    def _write(self) -> None:
        connection = sqlite3.connect(self._path, isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        key = "" if self._transcript is None else " UNIQUE"
        connection.execute(
            f"CREATE TABLE mail(id INTEGER PRIMARY KEY, session TEXT, run TEXT{key}, state INT, body BLOB)"
        )
        while True:
            batches = [self._pending.get()]
            while not self._pending.empty() and len(batches) < 64:
                batches.append(self._pending.get())
            drafts = [draft for drafts, _ in batches for draft in drafts]
            rows = [(draft.session, draft.idempotency_key, draft.SerializeToString()) for draft in drafts]
            ended = [(self._ended.popleft(),) for _ in range(len(self._ended))]
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO mail(session, run, body) VALUES(?, ?, ?)", rows)
            if ended:
                connection.executemany("UPDATE mail SET state = 1 WHERE run = ?", ended)
            connection.execute("COMMIT")
            if self._transcript is not None:
                self._transcript.write(drafts, [run for (run,) in ended])
            self._loop.call_soon_threadsafe(self._committed, batches)

    def _committed(self, batches: list[tuple[list[message_pb2.MessageDraft], asyncio.Queue[int]]]) -> None:
        for drafts, answers in batches:
            self._delivered.put_nowait(drafts)
            answers.put_nowait(len(drafts))

    async def send(
        self,
        requests: AsyncIterator[router_service_pb2.SendRequest],
        context: "grpc.aio.ServicerContext[object, object]",
    ) -> None:
        answers: asyncio.Queue[int] = asyncio.Queue()

        async def answer() -> None:
            number = 0
            while True:
                count = await answers.get()
                outcomes = [router_service_pb2.SendOutcome(number=number + i + 1) for i in range(count)]
                number += count
                await context.write(router_service_pb2.SendResponse(outcomes=outcomes, credit=count))

        answering = asyncio.create_task(answer())
        async for request in requests:
            self._pending.put((list(request.messages), answers))
        answering.cancel()

    async def attach(
        self,
        requests: AsyncIterator[router_service_pb2.AttachRequest],
        context: "grpc.aio.ServicerContext[object, object]",
    ) -> None:
        await context.write(router_service_pb2.AttachResponse(welcome=router_service_pb2.AttachWelcome()))

        async def take_acknowledgements() -> None:
            async for request in requests:
                if self._transcript is not None:
                    self._ended.extend([completion.run for completion in request.completions])

        taking = asyncio.create_task(take_acknowledgements())
        while True:
            drafts = await self._delivered.get()
            await context.write(
                router_service_pb2.AttachResponse(
                    deliveries=[
                        message_pb2.Delivery(
                            message=message_pb2.Message(run=draft.idempotency_key, draft=draft), session=draft.session
                        )
                        for draft in drafts
                    ]
                )
            )
            if taking.done():
                return


async def main(port: int, path: str, *, transcript: bool) -> None:
    mailbox = BareMailbox(path, asyncio.get_running_loop(), transcript=transcript)
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handlers = {
        "Send": grpc.stream_stream_rpc_method_handler(
            mailbox.send,  # type: ignore[arg-type]
            request_deserializer=router_service_pb2.SendRequest.FromString,
            response_serializer=router_service_pb2.SendResponse.SerializeToString,
        ),
        "Attach": grpc.stream_stream_rpc_method_handler(
            mailbox.attach,  # type: ignore[arg-type]
            request_deserializer=router_service_pb2.AttachRequest.FromString,
            response_serializer=router_service_pb2.AttachResponse.SerializeToString,
        ),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("mobot.router.v1.RouterService", handlers),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    print("READY", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], transcript="transcript" in sys.argv[3:]))
