"""One turn: a message being worked on by a bot, and everything a handler may do about it."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Unpack

from bot_sdk import convert
from bot_sdk.answer import SKIP, Answer
from bot_sdk.appends import AppendQueue
from bot_sdk.bots import Bots
from bot_sdk.deltas import DeltaPublisher
from bot_sdk.doubts import Doubts
from bot_sdk.errors import NoReply
from bot_sdk.mail import Mail, set_destination
from bot_sdk.memory import MemoryStore, Origin
from bot_sdk.meters import TurnMeters
from bot_sdk.model import (
    BotProfile,
    Consumption,
    Decision,
    Effect,
    Entry,
    InboundMessage,
    Lease,
    Receipt,
    Spawned,
    SpawnOptions,
    SpawnWish,
    TurnContext,
)
from bot_sdk.sessions import Sessions
from bot_sdk.steps import Committed, Json, Steps, ToolAnswer, ToolRequest
from bot_sdk.stubs import Stubs
from chassis import errors, resource_names
from mobot.router.v1 import message_pb2

_KEYS = uuid.UUID("6f2b7a52-6f6e-5d0c-9a52-0d8a4f1c7b11")  # the space of names for keys derived from a run


class Turn:
    """What a handler gets. It is over when the handler returns, and nothing can be written after that.

    A handler that returns text replies with it; one that returns None replies with what it streamed, if anything.
    """

    def __init__(
        self,
        lease: Lease,
        message: InboundMessage,
        bot: BotProfile,
        *,
        stubs: Stubs,
        appends: AppendQueue,
        deltas: DeltaPublisher,
        extend: Callable[[message_pb2.Extension], None],
        take_in: Callable[[Lease, str], None],
        all_taken_in: Callable[[Lease], Awaitable[None]],
        note: Callable[[Lease, str], Awaitable[None]],
        meters: TurnMeters,
        notes: frozenset[str] = frozenset(),
        collected: Sequence[InboundMessage] = (),
        decision: Decision | None = None,
    ) -> None:
        self.lease = lease
        self.message = message
        self.bot = bot
        self.collected = tuple(collected)
        """Further messages that are worked on in this turn, and end as it ends."""
        self.decision = decision
        """What a person decided, when the run had stopped to ask."""
        self.answer = Answer(
            lease, message, appends=appends, deltas=deltas, earlier=self.earlier, all_taken_in=all_taken_in
        )
        self.cancelled = asyncio.Event()
        """Set when somebody stopped the run; the handler is cancelled at the same time."""
        self._stubs = stubs
        self._extend = extend
        self._take_in = take_in
        self._note = note
        self._notes = notes
        self._meters = meters
        self._steps: Steps | None = None
        self._context: TurnContext | None = None
        self._memory: MemoryStore | None = None
        self._sessions: Sessions | None = None
        self._mail: Mail | None = None
        self._sent: dict[str, int] = {}
        self._steering: list[InboundMessage] = []
        self._steered: set[str] = set()

    # What is asked

    @property
    def text(self) -> str:
        """The text of the message, and of those that are worked on with it."""
        return "\n\n".join(message.text for message in (self.message, *self.collected))

    @property
    def session(self) -> str:
        """The session, `bots/{bot}/sessions/{session}`."""
        return self.lease.session

    @property
    def run(self) -> str:
        return self.lease.run

    @property
    def attempt(self) -> int:
        """Number of the attempt, from 1. Above 1 an earlier attempt may have done some of the work."""
        return self.lease.attempt

    async def context(self, *, max_events: int = 0, max_bytes: int = 0) -> TurnContext:
        """Session, history and what the run has committed; fetched once, when it is first asked for.

        The limits are of that first time: 0 for 400 events and 1 MiB; the newest are kept.
        """
        if self._context is None:
            self._context = await self.sessions.turn_context(
                self.lease.session, self.lease.run, max_events=max_events, max_bytes=max_bytes
            )
        return self._context

    async def history(self) -> tuple[Entry, ...]:
        """What was said and done in the session before this run, oldest first, as far as a context reaches."""
        return (await self.context()).history

    def take_steering(self) -> list[str]:
        """Texts that were sent to this running turn since the last call. Whoever takes them answers them.

        What no turn takes in waits for a turn of its own. The reply waits until the router knows what was taken in.
        """
        taken, self._steering = self._steering, []
        for message in taken:
            self._take_in(self.lease, message.run)
        return [message.text for message in taken]

    # What is answered

    def stream(self, piece: str) -> None:
        """Shows a piece of the answer to whoever watches. Never waits; nothing is kept unless it is replied."""
        self.answer.stream(piece)

    @property
    def streamed(self) -> str:
        """What was streamed since the last committed message."""
        return self.answer.streamed

    async def say(self, text: str | None = None) -> int:
        """Commits a message before the final one, what was streamed by default; returns its sequence."""
        return await self.answer.say(self.steps.take_number(), text)

    async def reply(
        self,
        text: str | None = None,
        *,
        model: str = "",
        used: Consumption | None = None,
        stop_reason: str = "stop",
        cited_memories: Sequence[str] = (),
    ) -> int:
        """Commits the one final message of the run, what was streamed by default; returns its sequence.

        `model` is "provider/model". The reply cites the memories that the turn recalled, and `cited_memories` (names).

        Raises:
            RuntimeError: the turn has replied already; use `say` for what comes before.
            LeaseLost: another attempt has the session.
        """
        return await self.answer.reply(
            text, model=model, used=used, stop_reason=stop_reason, cited_memories=cited_memories
        )

    def skip_reply(self, stop_reason: str = SKIP) -> None:
        """Ends the turn without a reply, whatever the handler returns: who asked hears that it is done, and no more."""
        self.answer.skip(stop_reason)

    @property
    def replied(self) -> bool:
        return self.answer.replied

    # Steps and tools

    @property
    def steps(self) -> Steps:
        if self._steps is None:
            doubts = Doubts(self.lease, self.decision, notes=self._notes, note=self._note)
            self._steps = Steps(
                self.lease,
                self.answer.events,
                write=self.answer.write,
                earlier=self.earlier,
                doubts=doubts,
                meters=self._meters,
            )
        return self._steps

    async def step(self, name: str, make: Callable[[], Awaitable[Json]], *, effect: Effect = Effect.IDEMPOTENT) -> Json:
        """The value that `make` gives, made once per run: a retry is handed what an earlier attempt committed."""
        return await self.steps.remember(name, make, effect)

    async def call_tool(self, request: ToolRequest, make: Callable[[], Awaitable[ToolAnswer]]) -> ToolAnswer:
        """Makes a tool call and commits it with its result; a retry is handed the committed result."""
        return await self.steps.call(request, make)

    async def committed(self) -> tuple[Committed, ...]:
        """What earlier attempts of this run said and called, for a brain that goes on behind it."""
        return await self.steps.committed()

    # The world around

    @property
    def memory(self) -> MemoryStore:
        """What the bot remembers across sessions."""
        if self._memory is None:
            origin = Origin(self.lease.session, self.message.sequence, self.lease.run)
            self._memory = MemoryStore(self._stubs, self.lease.bot, origin=origin, key=self.key, cite=self.answer.cite)
        return self._memory

    @property
    def sessions(self) -> Sessions:
        """The bot's own sessions."""
        if self._sessions is None:
            self._sessions = Sessions(self._stubs, self.lease.bot)
        return self._sessions

    @property
    def mail(self) -> Mail:
        if self._mail is None:
            self._mail = Mail(self._stubs, self.lease.bot)
        return self._mail

    @property
    def bots(self) -> Bots:
        """Which bots there are."""
        return Bots(self._stubs, self.lease.bot)

    def key(self, *names: str) -> str:
        """An id that is the same in every attempt of this run: for idempotency keys and request ids."""
        return str(uuid.uuid5(_KEYS, "\0".join((self.lease.run, *names))))

    async def send(
        self,
        to: str,
        text: str,
        *,
        want_reply: bool = False,
        mode: str = "enqueue",
        after_s: float = 0.0,
        expire_s: float | None = None,
        priority: int = 0,
    ) -> Receipt:
        """Sends mail to a session, bot or topic and returns once it is durable; nobody has read it by then.

        With `want_reply` the reply comes later, as a message to this session. `mode` says what a busy session does with
        it (enqueue, steer, interrupt, reject, collect); it is not delivered before `after_s` seconds have passed, and
        given up when it is not done `expire_s` seconds later. A retry that sends the same again sends nothing.
        """
        self.answer.check_open()
        what = f"{to}\0{text}"
        nth = self._nth(what)
        timed = after_s > 0 or expire_s is not None
        begin = await self._later(after_s, what, nth) if timed else None
        return await self.mail.send(
            to,
            text,
            idempotency_key=self.key("send", to, text, str(nth)),
            source=self.lease.session,
            reply_to=self.lease.session if want_reply else "",
            hop_count=self.message.hop_count + 1,
            mode=mode,
            not_before=begin if after_s > 0 else None,
            expire=None if begin is None or expire_s is None else begin + timedelta(seconds=expire_s),
            priority=priority,
        )

    async def ask(self, to: str, text: str, *, timeout_s: float = 60.0) -> str:
        """Sends and waits for the reply, at most 10 minutes. A late reply comes as a message to this session.

        Raises:
            NoReply: the message was delivered and there is no reply; its `result` tells why.
            InvalidArgument: a turn cannot ask its own session, which waits for this turn.
        """
        self.answer.check_open()
        if to in (self.lease.session, resource_names.parse_session(self.lease.session).key):
            raise errors.InvalidArgument("a turn cannot wait for its own session", reason="SELF_ASK")
        nth = self._nth(f"{to}\0{text}")
        answered = await self.mail.ask(
            to,
            text,
            idempotency_key=self.key("ask", to, text, str(nth)),
            timeout_s=timeout_s,
            source=self.lease.session,
            hop_count=self.message.hop_count + 1,
        )
        if not answered.result.succeeded:
            raise NoReply(answered.result)
        return answered.result.reply

    async def defer(self, text: str, *, after_s: float) -> Receipt:
        """A message to this session, delivered after `after_s` seconds, whatever is restarted till then."""
        return await self.send(self.lease.session, text, after_s=after_s)

    async def spawn(self, task: str, *, key: str = "", **wish: Unpack[SpawnOptions]) -> Spawned:
        """A child session with a task of its own; its result comes to this session as a message, once.

        `key` is the child's id within its bot, such as `thread:budget-planning`; it is generated when empty. What else
        may be wished for stands at `SpawnWish`. A retry that spawns the same again spawns nothing.

        Raises:
            FailedPrecondition, ResourceExhausted, PermissionDenied: see `Mail.spawn`.
        """
        self.answer.check_open()
        nth = self._nth(f"spawn\0{key}\0{task}")
        made = SpawnWish(parent=self.lease.session, task=task, session_id=key, **wish)
        return await self.mail.spawn(made, request_id=self.key("spawn", key, task, str(nth)))

    def _nth(self, what: str) -> int:
        """Which of the calls of this turn that say the same this one is, from 1: the same in every attempt."""
        nth = self._sent[what] = self._sent.get(what, 0) + 1
        return nth

    async def _later(self, after_s: float, what: str, nth: int) -> datetime:
        """The time `after_s` seconds from now, the same in every attempt: a repeated message must not differ."""
        name = f"time of {self.key('time', what, str(nth))}"

        async def now() -> Json:
            return (datetime.now(UTC) + timedelta(seconds=after_s)).isoformat()

        return datetime.fromisoformat(str(await self.step(name, now)))

    def enclose(
        self, to: str, text: str, *, key: str, type_: str = "", metadata: Mapping[str, str] | None = None
    ) -> None:
        """Mail that is accepted in the very commit that completes this run, and not at all if it ends otherwise.

        An attempt that finds the reply committed does not call the handler again: what must go with every completion
        is enclosed in the handler's `after_reply`. `key` is the idempotency key.
        """
        draft = message_pb2.MessageDraft(
            source=self.lease.session,
            parts=convert.text_parts(text),
            idempotency_key=key,
            type=type_,
            metadata=dict(metadata or {}),
        )
        set_destination(draft, to)
        self.answer.enclose(draft)

    def heartbeat(self, lease_s: float = 0.0) -> None:
        """Keeps the lease for longer, `lease_s` seconds from now (0: the default); needed only for long silences.

        While the worker is attached its leases are kept alive anyway.
        """
        extension = message_pb2.Extension(run=self.lease.run, epoch=self.lease.epoch)
        if lease_s:
            extension.lease_duration.CopyFrom(convert.to_duration(lease_s))
        self._extend(extension)

    # For the worker

    async def earlier(self) -> Sequence[Entry]:
        """What earlier attempts of the run committed."""
        return (await self.context()).committed

    def steer(self, message: InboundMessage) -> None:
        if message.run not in self._steered:  # a router that was started again may hand it over again
            self._steered.add(message.run)
            self._steering.append(message)
