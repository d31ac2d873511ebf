"""The calls about a session's log: appending, reading, watching."""

# ruff: noqa: ARG002 - gRPC gives every method a context

from collections.abc import AsyncIterator, Sequence
from typing import NoReturn

from chassis.errors import AppError, Draining, field_invalid
from chassis.identity import Caller, bot_of, caller
from chassis.open_streams import FrameQueue
from chassis.paging import clamp_page_size
from chassis.resource_names import parse_session
from chassis.telemetry import CURRENT_TRACEPARENT
from mobot.session.v1 import event_pb2, session_service_pb2
from session_service.convert import checks, queries, sessions
from session_service.convert.events import AppendReader, to_proto_event
from session_service.convert.refusals import to_proto_refusal
from session_service.convert.tokens import watch_digest
from session_service.domain.errors import SessionNotFound, WatchTokenInvalid
from session_service.domain.event import MAX_ANSWER_BYTES, Append, Appended, StoredEvent
from session_service.feed.answers import Delta
from session_service.feed.subscription import ALL_KINDS, WatchQuery
from session_service.feed.watch import Frame, Watch
from session_service.servicer.calls import Calls, Rooms

MAX_BATCH_APPENDS = 2_000
MAX_DELTA_BYTES = 64 * 1024

_KEPT_MESSAGES = 2_048
_KEPT_BYTES = 16 * 1024
_PAGING = ("page_token", "page_size", "max_bytes", "count_total")


class EventCalls(Calls):
    """Append, read, watch."""

    def __init__(self, rooms: Rooms) -> None:
        super().__init__(rooms)
        self._messages: dict[int, event_pb2.Event] = {}

    async def AppendEvents(
        self, request: session_service_pb2.AppendEventsRequest, context: object
    ) -> session_service_pb2.AppendEventsResponse:
        append = self._reader(request.append.session).read(request.append, return_session=True)
        await self._admit(append)
        done = await self._store.append(append)
        return session_service_pb2.AppendEventsResponse(
            sequences=done.sequences,
            duplicates=done.duplicates,
            session=None if done.session is None else sessions.to_proto_session(done.session),
        )

    async def BatchAppendEvents(
        self, request: session_service_pb2.BatchAppendEventsRequest, context: object
    ) -> session_service_pb2.BatchAppendEventsResponse:
        checks.check_count("appends", request.appends, minimum=1, maximum=MAX_BATCH_APPENDS)
        outcomes = await self._append_each(request.appends, return_sessions=request.return_sessions)
        return session_service_pb2.BatchAppendEventsResponse(outcomes=outcomes)

    async def PublishDeltas(
        self, request_iterator: AsyncIterator[session_service_pb2.PublishDeltasRequest], context: object
    ) -> session_service_pb2.PublishDeltasResponse:
        who = caller()
        accepted = dropped = 0

        async def publish(frames: FrameQueue[NoReturn]) -> None:
            nonlocal accepted, dropped
            async for request in request_iterator:
                if frames.ended:
                    raise Draining
                for delta in await self._admitted(request.deltas, who):
                    if delta is not None and self._hub.publish_delta(delta):
                        accepted += 1
                    else:
                        dropped += 1

        async with self._streams.read(publish) as frames:
            await frames.next()  # which has nothing to give: it returns when no more is published
        return session_service_pb2.PublishDeltasResponse(accepted_count=accepted, dropped_count=dropped)

    async def ListEvents(
        self, request: session_service_pb2.ListEventsRequest, context: object
    ) -> session_service_pb2.ListEventsResponse:
        name = self._visible(request.parent, field="parent")
        query = queries.page_query(request, bot=bot_of(caller()), paging=_PAGING)
        after = int(self._page_tokens.decode(query, request.page_token)[0]) if request.page_token else None
        page = await self._store.list_events(
            name,
            queries.from_proto_event_filter(request.filter),
            descending=request.descending,
            after=after,
            size=clamp_page_size(request.page_size, default=200, maximum=1_000),
            max_bytes=checks.check_not_negative("max_bytes", request.max_bytes) or MAX_ANSWER_BYTES,
            count=request.count_total,
        )
        return session_service_pb2.ListEventsResponse(
            events=[to_proto_event(event) for event in page.events],
            next_page_token=self._page_tokens.encode(query, (page.events[-1].sequence,)) if page.more else "",
            as_of=self._watch_tokens.encode(page.as_of),
            total_count=page.total,
            session=sessions.to_proto_session(page.session),
        )

    async def GetEvent(
        self, request: session_service_pb2.GetEventRequest, context: object
    ) -> session_service_pb2.GetEventResponse:
        name = self._visible(request.session, field="session")
        which = request.WhichOneof("event")
        if which is None or (which == "id" and not request.id):
            raise field_invalid("event", "must be set")
        event = await self._store.get_event(name, sequence=request.sequence, event_id=request.id)
        return session_service_pb2.GetEventResponse(event=to_proto_event(event))

    async def GetTurnContext(
        self, request: session_service_pb2.GetTurnContextRequest, context: object
    ) -> session_service_pb2.GetTurnContextResponse:
        name = self._visible(request.session, field="session")
        if not request.run:
            raise field_invalid("run", "must be set")
        turn = await self._store.turn_context(
            name,
            request.run,
            max_events=checks.check_not_negative("max_events", request.max_events) or 400,
            max_bytes=checks.check_not_negative("max_bytes", request.max_bytes) or 1024 * 1024,
        )
        return session_service_pb2.GetTurnContextResponse(
            session=sessions.to_proto_session(turn.session),
            summary=None if turn.summary is None else to_proto_event(turn.summary),
            events=[to_proto_event(event) for event in turn.events],
            run_events=[to_proto_event(event) for event in turn.run_events],
            truncated=turn.truncated,
        )

    async def WatchEvents(
        self, request: session_service_pb2.WatchEventsRequest, context: object
    ) -> AsyncIterator[session_service_pb2.WatchEventsResponse]:
        watch, digest = await self._watch(request)
        try:
            while True:
                yield self._to_response(await anext(watch), digest)
        finally:
            watch.close()

    async def _watch(self, request: session_service_pb2.WatchEventsRequest) -> tuple[Watch, bytes]:
        """The watch and the digest of its tokens. Watches are many and long, so nothing else of their start is kept."""
        order = queries.from_proto_watch(request)
        names = [self._visible(name, field="sessions") for name in order.names]
        own_bot = bot_of(caller())
        bots = order.bots if own_bot is None else [own_bot]
        digest = watch_digest(names, order.bots or (), order.kinds, [own_bot or ""])
        start = await self._start(order, digest)
        found = await self._store.find_ends(names) if names else {}
        for name in names:
            if name not in found:
                raise SessionNotFound(name)
        if order.after_sequence is not None and start is None:
            end = found[names[0]]
            if order.after_sequence > end.sequence:
                raise field_invalid("after_sequence", f"must not be beyond the log's end, {end.sequence}")
            start = await self._store.position_of(end.session, order.after_sequence)
        keys = tuple(end.session for end in found.values() if order.bots is None or end.bot in order.bots)
        query = WatchQuery(
            sessions=None if not names else keys if len(keys) == 1 else frozenset(keys),
            bots=None if names or bots is None else frozenset(bots),
            kinds=frozenset(order.kinds) if order.kinds else ALL_KINDS,
            include_sessions=request.include_sessions,
            include_deltas=request.include_deltas,
        )
        watch = Watch(
            self._hub,
            self._store,
            query,
            start=start,
            snapshot=request.include_snapshot,
            checkpoint_s=order.checkpoint_s,
            patience=self._patience,
        )
        return watch, digest

    async def _append_each(
        self, appends: Sequence[session_service_pb2.SessionAppend], *, return_sessions: bool
    ) -> list[session_service_pb2.AppendOutcome]:
        """A refusal in one append, wherever it is found, does not hinder the others."""
        who = caller()
        reader = self._reader()
        admitted = who.actor.startswith("services/")  # all of what `_admit` would find out about each
        refusals: dict[int, AppError] = {}
        read: list[Append] = []
        for number, append in enumerate(appends):
            try:
                if who.worker:
                    reader = self._reader(append.session)
                item = reader.read(append, return_session=return_sessions)
                if not admitted:
                    await self._admit(item)
            except AppError as error:
                refusals[number] = error
            else:
                read.append(item)
        results = iter(await self._store.append_many(read))
        return [
            _to_outcome(append.session, refusals[number] if number in refusals else next(results), return_sessions)
            for number, append in enumerate(appends)
        ]

    def _reader(self, session: str = "") -> AppendReader:
        """`session` is whose bot a worker writes as, when it writes for itself."""
        who = caller()
        actor = session.partition("/sessions/")[0] if who.worker else who.actor
        return AppendReader(actor=actor, root=who.root, traceparent=CURRENT_TRACEPARENT.get(), names=self._names)

    async def _admit(self, append: Append) -> None:
        """Raises SessionNotFound for the session of another bot, BotNotFound before a session of no bot is created."""
        who = caller()
        own_bot = bot_of(who)
        if own_bot is not None:
            if append.bot != own_bot:
                raise SessionNotFound(f"bots/{append.bot}/sessions/{append.session_id}")
        elif who.worker and not await self._delegation.serves(who.worker, f"bots/{append.bot}"):
            raise SessionNotFound(f"bots/{append.bot}/sessions/{append.session_id}")
        elif append.ensure is not None and not who.actor.startswith("services/"):
            # The router has checked the bot before it took the message in.
            await self._bots.check(append.bot)

    async def _admitted(self, deltas: Sequence[event_pb2.Delta], who: Caller) -> list[Delta | None]:
        """None for a delta that is dropped at once: of another bot's session, or of a run that is not at work."""
        own_bot = bot_of(who)
        read: list[Delta | None] = []
        unknown: dict[str, set[str]] = {}
        for delta in deltas:
            bot = parse_session(delta.session, field="deltas.session").bot
            if len(delta.text) > MAX_DELTA_BYTES:
                raise field_invalid("deltas.text", "must not be larger than 64 KiB")
            state = self._hub.run_state((delta.session, delta.run))
            mine = own_bot in (None, bot) and (
                not who.worker or await self._delegation.serves(who.worker, f"bots/{bot}")
            )
            if state is False or not mine or delta.offset < 0:
                read.append(None)
                continue
            if state is None:
                unknown.setdefault(delta.session, set()).add(delta.run)
            read.append(
                Delta(
                    delta.session,
                    delta.run,
                    delta.offset,
                    delta.text,
                    delta.replace,
                    delta.kind,
                    delta.epoch,
                    delta.step,
                )
            )
        if unknown:
            for name, session in (await self._store.find_sessions(list(unknown))).items():
                for run in unknown[name].intersection(session.head.active_runs):
                    self._hub.admit((name, run), session.head.pk, session.head.mark)
        return read

    async def _start(self, order: queries.WatchOrder, digest: bytes) -> int | None:
        if not order.resume_token:
            return None
        position = self._watch_tokens.decode(order.resume_token, digest)
        if position > self._hub.head and position > (await self._store.log_range()).head:
            raise WatchTokenInvalid("names a place that this store has not reached")
        return position

    def _to_response(self, frame: Frame, digest: bytes) -> session_service_pb2.WatchEventsResponse:
        response = session_service_pb2.WatchEventsResponse(
            resume_token=self._watch_tokens.encode(frame.position, digest),
            checkpoint=frame.checkpoint,
            caught_up=frame.caught_up,
        )
        if frame.events:
            response.events.extend([self._message_of(event) for event in frame.events])
        for delta in frame.deltas:
            response.deltas.add(
                session=delta.session,
                run=delta.run,
                offset=delta.offset,
                text=delta.text,
                replace=delta.replace,
                kind=event_pb2.DeltaKind.ValueType(delta.kind),
                epoch=delta.epoch,
                step=delta.step,
            )
        for session in frame.sessions:
            response.sessions.append(sessions.to_proto_session(session))
        if frame.reset:
            response.reset.message = frame.reset
        return response

    def _message_of(self, event: StoredEvent) -> event_pb2.Event:
        """Events just committed are sent to many watchers, so their messages are kept for a moment."""
        message = self._messages.get(event.position)
        if message is None:
            message = to_proto_event(event)
            if len(event.payload) > _KEPT_BYTES:
                return message
            if len(self._messages) >= _KEPT_MESSAGES:
                self._messages.clear()
            self._messages[event.position] = message
        return message


def _to_outcome(
    name: str,
    result: Appended | AppError,
    with_session: bool,
) -> session_service_pb2.AppendOutcome:
    if isinstance(result, AppError):
        return session_service_pb2.AppendOutcome(refusal=to_proto_refusal(name, result))
    outcome = session_service_pb2.AppendOutcome(sequences=result.sequences, duplicates=result.duplicates)
    if with_session and result.session is not None:
        outcome.session.CopyFrom(sessions.to_proto_session(result.session))
    return outcome
