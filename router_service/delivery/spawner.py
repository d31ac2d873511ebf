"""Makes children of wishes, and tidies up after them. What one process begins, any other can finish."""

import logging
from dataclasses import replace

import grpc.aio
from sqlalchemy import Connection

from chassis.errors import AppError, NotFound, ResourceExhausted, Unavailable
from chassis.status import from_rpc_error
from mobot.session.v1 import session_service_pb2, session_service_pb2_grpc
from router_service.convert.spawns import SpawnReader, creation, forked_from
from router_service.domain.errors import SessionAlreadyExists, SessionPersistent, SessionRefused
from router_service.domain.spawning import Cleanup, NewSpawn, SpawnLimits, SpawnState
from router_service.store import policies, spawns
from router_service.store.fan_items import PutSpawn
from router_service.store.policies import Entry
from router_service.store.router_store import RouterStore
from router_service.store.spawns import StoredSpawn
from router_service.store.ticket import Ticket

RESUME_AFTER_US = 15_000_000
_AGAIN_US = 2_000_000
_PAGE = 100
_PASSING = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "INTERNAL", "UNKNOWN", "ABORTED", "CANCELLED")

_log = logging.getLogger(__name__)


class Spawner:
    """Wish, session, task: each step is durable before the next, and none is done twice."""

    def __init__(
        self,
        sessions: "session_service_pb2_grpc.SessionServiceAsyncStub",
        store: RouterStore,
        reader: SpawnReader,
        limits: SpawnLimits,
    ) -> None:
        self._sessions = sessions
        self._store = store
        self._reader = reader
        self._limits = limits

    async def spawn(self, new: NewSpawn, entry: Entry) -> StoredSpawn:
        """The child as it is once its task is in its mailbox. `entry` goes on record with the wish.

        Raises:
            AppError: as SpawnSession says; then nothing is left of the wish, unless it was made before.
        """
        now_us = self._store.now_us()

        def wish(conn: Connection) -> StoredSpawn:
            made = spawns.wish(conn, new, self._limits, now_us=now_us, due_us=now_us + RESUME_AFTER_US)
            if not made.duplicate:
                policies.record(conn, entry)
            return made

        stored = await self._store.write(wish)
        if stored.state is not SpawnState.WISHED:
            return stored
        try:
            await self._fulfil(stored)
        except AppError:
            if not stored.duplicate:
                await self._store.write(lambda conn: spawns.withdraw(conn, stored.open.id))
            raise
        found = await self._store.read(lambda conn: spawns.require(conn, stored.open.id))
        return replace(found, duplicate=stored.duplicate)

    async def tick(self) -> int:
        """Looks after all children that need it; returns when the next one will (0: never)."""
        now_us = self._store.now_us()
        due, next_us = await self._store.read(lambda conn: spawns.due(conn, now_us, _PAGE, longest_us=RESUME_AFTER_US))
        for stored in due:
            if stored.state is SpawnState.WISHED:
                await self._resume(stored)
            else:
                await self._tidy(stored)
        if due:
            _, next_us = await self._store.read(
                lambda conn: spawns.due(conn, self._store.now_us(), 1, longest_us=RESUME_AFTER_US)
            )
        return next_us

    async def _resume(self, stored: StoredSpawn) -> None:
        try:
            await self._fulfil(stored)
        except (Unavailable, ResourceExhausted) as error:
            _log.warning("a child has to wait", extra={"session": stored.open.session, "reason": error.reason})
            await self._postpone(stored)
        except AppError as error:
            _log.warning("a child is refused", extra={"session": stored.open.session, "reason": error.reason})
            await self._store.write(lambda conn: spawns.withdraw(conn, stored.open.id))

    async def _fulfil(self, stored: StoredSpawn) -> None:
        created = await self._make_session(stored)
        checked = self._reader.task(stored)
        ticket = Ticket()
        item = PutSpawn(
            spawn=replace(stored.open, message_id=checked.message.id),
            message=checked.message,
            created=created,
            ticket=ticket,
        )
        self._store.mail.post(item)
        await ticket.wait()
        if item.refusal is not None:
            raise item.refusal

    async def _make_session(self, stored: StoredSpawn) -> bool:
        request, source, name = creation(stored), forked_from(stored), stored.open.session
        try:
            if not source:
                return (await self._sessions.CreateSession(request)).created
            existing = await self._exists(name, request)
            if existing:
                return False
            await self._sessions.ForkSession(session_service_pb2.ForkSessionRequest(source=source, target=request))
        except grpc.aio.AioRpcError as error:
            raise _refusal(from_rpc_error(error), name) from error
        return True

    async def _exists(self, name: str, request: session_service_pb2.CreateSessionRequest) -> bool:
        """With USE_EXISTING a child that is there goes on with the transcript that it has."""
        if request.conflict_policy != session_service_pb2.CONFLICT_POLICY_USE_EXISTING:
            return False
        try:
            await self._sessions.GetSession(session_service_pb2.GetSessionRequest(name=name))
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return False
            raise
        return True

    async def _tidy(self, stored: StoredSpawn) -> None:
        open_spawn = stored.open
        if not await self._store.read(lambda conn: spawns.can_be_tidied(conn, open_spawn)):
            await self._postpone(stored)
            return
        try:
            if open_spawn.cleanup is Cleanup.DELETE:
                await self._sessions.DeleteSession(
                    session_service_pb2.DeleteSessionRequest(
                        name=open_spawn.session, allow_missing=True, request_id=f"tidy-{open_spawn.id}"
                    )
                )
            else:
                await self._sessions.ArchiveSession(
                    session_service_pb2.ArchiveSessionRequest(
                        name=open_spawn.session, reason="its task has ended", request_id=f"tidy-{open_spawn.id}"
                    )
                )
        except grpc.aio.AioRpcError as error:
            failure = from_rpc_error(error)
            if failure.code in _PASSING:
                await self._postpone(stored)
                return
            if not isinstance(failure, NotFound):
                _log.warning("a child stays", extra={"session": open_spawn.session, "reason": failure.reason})
        await self._store.write(lambda conn: spawns.tidied(conn, open_spawn.id))

    async def _postpone(self, stored: StoredSpawn) -> None:
        at_us = self._store.now_us() + _AGAIN_US
        await self._store.write(lambda conn: spawns.postpone(conn, stored.open.id, at_us))


def _refusal(error: AppError, session: str) -> AppError:
    if error.reason == "SESSION_ALREADY_EXISTS":
        return SessionAlreadyExists(session)
    if error.reason == "SESSION_PERSISTENT":
        return SessionPersistent(session)
    if error.code in _PASSING:
        return Unavailable(
            "the session service does not answer; try again with the same request_id",
            reason="UPSTREAM_UNAVAILABLE",
            metadata={"service": "session"},
            retry_after_s=1.0,
        )
    return SessionRefused(session, error.reason or error.code, error.message)
