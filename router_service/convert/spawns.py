"""Wishes for children: checked, stored, and turned into sessions and tasks."""

from collections.abc import Callable
from datetime import timedelta
from hashlib import blake2b
from typing import Final

from chassis.clock import Clock
from chassis.errors import field_invalid
from chassis.identity import Caller
from chassis.resource_names import check_session_id, parse_bot, parse_session
from mobot.router.v1 import message_pb2
from mobot.session.v1 import session_pb2, session_service_pb2
from router_service.convert.drafts import CheckedDraft, DraftReader, check_parts, check_text
from router_service.convert.letters import SPAWN_TYPE
from router_service.convert.times import set_time, span_us
from router_service.domain import limits
from router_service.domain.errors import CallerNotAllowed
from router_service.domain.spawning import Cleanup, NewSpawn
from router_service.store.spawns import StoredSpawn

_TIMEOUT_S: Final = limits.MAX_DELAY_DAYS * 86_400.0
_POLICIES: Final = {
    message_pb2.SPAWN_CONFLICT_POLICY_UNSPECIFIED: session_service_pb2.CONFLICT_POLICY_FAIL,
    message_pb2.SPAWN_CONFLICT_POLICY_FAIL: session_service_pb2.CONFLICT_POLICY_FAIL,
    message_pb2.SPAWN_CONFLICT_POLICY_USE_EXISTING: session_service_pb2.CONFLICT_POLICY_USE_EXISTING,
    message_pb2.SPAWN_CONFLICT_POLICY_REPLACE: session_service_pb2.CONFLICT_POLICY_REPLACE,
}
_CONTEXTS: Final = frozenset(
    (
        message_pb2.SPAWN_CONTEXT_UNSPECIFIED,
        message_pb2.SPAWN_CONTEXT_ISOLATED,
        message_pb2.SPAWN_CONTEXT_FORKED,
    )
)


class SpawnReader:
    """Checks wishes and completes them."""

    def __init__(self, clock: Clock, new_id: Callable[[], str], drafts: DraftReader) -> None:
        self._clock = clock
        self._new_id = new_id
        self._drafts = drafts

    def read(
        self, given: message_pb2.Spawn, caller: Caller, *, own_bot: str, key: str = "", field: str = "spawn"
    ) -> NewSpawn:
        """The wish as it will be stored. `key` becomes the run id, `own_bot` is the calling bot or empty.

        Raises:
            InvalidArgument: FIELD_INVALID, RESOURCE_NAME_INVALID.
            PermissionDenied: CALLER_NOT_ALLOWED, for a parent that is not the caller's.
        """
        if given.parent:
            parse_session(given.parent, field=f"{field}.parent")
        if own_bot and not given.parent.startswith(f"{own_bot}/"):
            raise CallerNotAllowed(
                f"{caller.actor} may spawn from its own sessions alone",
                metadata={"principal": caller.principal, "actor": caller.actor, "field": f"{field}.parent"},
            )
        bot = given.bot or given.parent.partition("/sessions/")[0]
        if not bot:
            raise field_invalid(f"{field}.bot", "must be set when there is no parent")
        parse_bot(bot, field=f"{field}.bot")
        check_parts(given.task, f"{field}.task")
        policy = given.conflict_policy
        if policy not in _POLICIES:
            raise field_invalid(f"{field}.conflict_policy", "must be a known SpawnConflictPolicy", value=str(policy))
        if given.context not in _CONTEXTS:
            raise field_invalid(f"{field}.context", "must be a known SpawnContext", value=str(given.context))
        if given.context == message_pb2.SPAWN_CONTEXT_FORKED and not given.parent:
            raise field_invalid(f"{field}.context", "must be ISOLATED when there is no parent to fork")
        cleanup = given.cleanup or Cleanup.KEEP
        if cleanup not in tuple(Cleanup):
            raise field_invalid(f"{field}.cleanup", "must be a known SpawnCleanup", value=str(cleanup))
        span_us(given.timeout, f"{field}.timeout", maximum_s=_TIMEOUT_S)
        if key:
            check_text(key, "request_id", limits.MAX_REQUEST_ID)
        spawn_id = self._new_id()
        # A repetition of a call that came to nothing must name the same child.
        child = blake2b(f"{caller.actor}\n{key}".encode(), digest_size=16).hexdigest() if key else spawn_id
        stored = message_pb2.Spawn()
        stored.CopyFrom(given)
        stored.bot = bot
        stored.session_id = given.session_id or f"subagent:{child}"
        check_session_id(stored.session_id, field=f"{field}.session_id")
        session = f"{bot}/sessions/{stored.session_id}"
        if session == given.parent:
            raise field_invalid(f"{field}.session_id", "must not be the parent itself")
        content = given.SerializeToString(deterministic=True)
        return NewSpawn(
            id=spawn_id,
            run=key or f"spawn/{spawn_id}",
            fingerprint=blake2b(content, digest_size=16, key=caller.actor.encode()[:64]).hexdigest(),
            parent=given.parent,
            session=session,
            announce=given.announce and bool(given.parent),
            cleanup=Cleanup(cleanup),
            sender=caller.actor,
            spawn=stored.SerializeToString(),
        )

    def task(self, stored: StoredSpawn) -> CheckedDraft:
        """The first message of the child."""
        spawn = message_pb2.Spawn.FromString(stored.spawn)
        draft = message_pb2.MessageDraft(
            session=stored.open.session,
            source=spawn.parent or stored.sender,
            parts=spawn.task,
            type=SPAWN_TYPE,
            correlation_id=stored.open.run[: limits.MAX_KEY],
        )
        if stored.open.announce:
            draft.reply_to = spawn.parent
        timeout_us = span_us(spawn.timeout, "spawn.timeout", maximum_s=_TIMEOUT_S)
        if timeout_us:
            now = self._clock.now() + timedelta(microseconds=timeout_us)
            set_time(draft.expire_time, int(now.timestamp() * 1e6))
        sender = Caller(principal=stored.sender, root=True, actor=stored.sender)
        return self._drafts.read(draft, sender, field="spawn", internal_key=stored.open.run)


def creation(stored: StoredSpawn) -> session_service_pb2.CreateSessionRequest:
    """The call that makes the child. Its request id follows from the run, so that it is made once."""
    spawn = message_pb2.Spawn.FromString(stored.spawn)
    session = session_pb2.Session()
    session.CopyFrom(spawn.session)
    session.ClearField("name")
    session.parent = spawn.parent
    session.created_via = "spawn"
    return session_service_pb2.CreateSessionRequest(
        parent=spawn.bot,
        session_id=spawn.session_id,
        session=session,
        conflict_policy=_POLICIES[spawn.conflict_policy],
        request_id=f"spawn-{blake2b(stored.open.run.encode(), digest_size=16).hexdigest()}",
    )


def forked_from(stored: StoredSpawn) -> str:
    """The session whose transcript the child begins with, empty for none."""
    spawn = message_pb2.Spawn.FromString(stored.spawn)
    return spawn.parent if spawn.context == message_pb2.SPAWN_CONTEXT_FORKED else ""
