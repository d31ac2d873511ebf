"""Mail between sessions, as one bot sends it, and the children it spawns."""

import time
from collections.abc import Mapping
from datetime import datetime

from bot_sdk import convert
from bot_sdk.model import Answered, MailboxInfo, Receipt, RunResult, Spawned, SpawnWish
from bot_sdk.stubs import Stubs, acting_for, answer
from chassis import errors, resource_names
from mobot.router.v1 import message_pb2, router_service_pb2

MAX_WAIT_S = 600.0
TASK_TYPE = "mobot.spawn"
"""The type of a message that is the task of a spawned session: what it says is to be done."""
RESULT_TYPE = "mobot.spawn.result"
"""The type of the message that tells a parent what came of a child's task."""
_ONE_WAIT_S = 30.0


def set_destination(draft: message_pb2.MessageDraft, to: str) -> None:
    """`to` is "bots/{bot}", "bots/{bot}/sessions/{session}", "topics/{topic}" or a key "agent:{bot}:{session}".

    Raises:
        InvalidArgument: it is none of these.
    """
    if to.startswith("topics/"):
        draft.topic = to
    elif to.startswith("agent:"):
        draft.session = resource_names.parse_session_key(to, field="to").name
    elif "/sessions/" in to:
        draft.session = resource_names.parse_session(to, field="to").name
    else:
        draft.bot = resource_names.bot_name(resource_names.parse_bot(to, field="to"))


class Mail:
    """Sends for `actor` ("bots/main"), and waits for what became of it."""

    def __init__(self, stubs: Stubs, actor: str) -> None:
        self._stubs = stubs
        self._metadata = acting_for(actor)

    async def send(
        self,
        to: str,
        text: str,
        *,
        idempotency_key: str,
        source: str = "",
        reply_to: str = "",
        correlation_id: str = "",
        hop_count: int = 0,
        metadata: Mapping[str, str] | None = None,
        mode: str = "enqueue",
        not_before: datetime | None = None,
        expire: datetime | None = None,
        priority: int = 0,
        in_reply_to: str = "",
    ) -> Receipt:
        """Sends and returns once the message is durable. Nobody has read it by then.

        The same key with the same content sends once, however often it is called. `mode` says what a busy session does
        with it: enqueue, steer, interrupt, reject or collect. It is given up when it is not done at `expire`.
        """
        draft = _draft(
            to,
            text,
            idempotency_key=idempotency_key,
            source=source,
            reply_to=reply_to,
            hop_count=hop_count,
            mode=mode,
        )
        draft.correlation_id = correlation_id
        draft.priority = priority
        draft.in_reply_to = in_reply_to
        draft.metadata.update(metadata or {})
        if not_before is not None:
            draft.not_before_time.FromDatetime(not_before)
        if expire is not None:
            draft.expire_time.FromDatetime(expire)
        request = router_service_pb2.SendMessageRequest(message=draft)
        response = await answer(self._stubs.router.SendMessage(request, metadata=self._metadata))
        return convert.to_receipt(response.receipt)

    async def ask(
        self,
        to: str,
        text: str,
        *,
        idempotency_key: str,
        timeout_s: float,
        source: str = "",
        hop_count: int = 0,
        mode: str = "enqueue",
    ) -> Answered:
        """Sends and waits for what becomes of it, at most 10 minutes.

        A reply in time is given here and is no mail; one that comes later is mail to `source`.
        """
        draft = _draft(
            to, text, idempotency_key=idempotency_key, source=source, reply_to=source, hop_count=hop_count, mode=mode
        )
        request = router_service_pb2.AskMessageRequest(message=draft)
        request.timeout.CopyFrom(convert.to_duration(max(0.001, min(timeout_s, MAX_WAIT_S))))
        try:
            response = await answer(self._stubs.router.AskMessage(request, metadata=self._metadata))
        except errors.DeadlineExceeded as error:
            if error.reason != "REPLY_TIMEOUT":
                raise
            return Answered(await self.look(idempotency_key))
        return Answered(convert.to_run_result(response.message), convert.to_receipt(response.receipt))

    async def look(self, run: str) -> RunResult:
        """What has become of a run by now."""
        request = router_service_pb2.GetMessageRequest(run=run)
        response = await answer(self._stubs.router.GetMessage(request, metadata=self._metadata))
        return convert.to_run_result(response.message)

    async def cancel(self, run: str, *, cascade: bool = False, reason: str = "") -> tuple[str, ...]:
        """Stops a run, with `cascade` also what it spawned; gives the runs that were cancelled."""
        request = router_service_pb2.CancelRunRequest(run=run, cascade=cascade, reason=reason)
        response = await answer(self._stubs.router.CancelRun(request, metadata=self._metadata))
        return tuple(response.cancelled_runs)

    async def spawn(self, wish: SpawnWish, *, request_id: str) -> Spawned:
        """A child session with its first task, in one durable act; `request_id` becomes the run's id.

        Raises:
            FailedPrecondition: the child exists (SESSION_ALREADY_EXISTS), or is persistent and cannot be replaced.
            ResourceExhausted: too many children, or too deep (SPAWN_LIMIT_REACHED).
            PermissionDenied: the policy does not allow it (POLICY_DENIED).
        """
        request = router_service_pb2.SpawnSessionRequest(spawn=convert.from_spawn_wish(wish), request_id=request_id)
        response = await answer(self._stubs.router.SpawnSession(request, metadata=self._metadata))
        return Spawned(convert.to_receipt(response.receipt), response.created)

    async def mailbox(self, session: str) -> MailboxInfo:
        """What waits for a session."""
        request = router_service_pb2.GetMailboxStatsRequest(session=session)
        response = await answer(self._stubs.router.GetMailboxStats(request, metadata=self._metadata))
        for stats in response.mailboxes:
            return MailboxInfo(stats.queued_count, stats.in_flight_count, stats.dead_letter_count)
        return MailboxInfo(0, 0, 0)

    async def wait(self, run: str, *, timeout_s: float) -> RunResult:
        """What became of a run after at most `timeout_s` seconds; `done` is False when it still goes on."""
        deadline = time.monotonic() + min(timeout_s, MAX_WAIT_S)
        while True:
            left_s = max(0.05, deadline - time.monotonic())
            request = router_service_pb2.WaitRunRequest(run=run)
            # In slices, so that a call never outlives a worker that went away by much.
            request.timeout.CopyFrom(convert.to_duration(min(left_s, _ONE_WAIT_S)))
            response = await answer(self._stubs.router.WaitRun(request, metadata=self._metadata))
            if response.done or time.monotonic() >= deadline:
                return convert.to_run_result(response.message, done=response.done)


def _draft(
    to: str, text: str, *, idempotency_key: str, source: str, reply_to: str, hop_count: int, mode: str
) -> message_pb2.MessageDraft:
    draft = message_pb2.MessageDraft(
        source=source,
        parts=convert.text_parts(text),
        idempotency_key=idempotency_key,
        reply_to=reply_to,
        hop_count=hop_count,
    )
    if mode != "enqueue":
        draft.mode = convert.from_mode(mode)
    set_destination(draft, to)
    return draft
