"""A session service in memory: append-only logs with fencing, deterministic ids, turn contexts and deltas."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from chassis import errors, resource_names
from mobot.session.v1 import event_pb2, session_pb2, session_service_pb2, session_service_pb2_grpc

COMMIT_S = 0.001
CONTEXT_KINDS = ("message", "tool_called", "tool_returned")


class Log:
    def __init__(self, name: str) -> None:
        self.name = name
        self.mark = 0
        self.label = ""
        self.events: list[event_pb2.Event] = []
        self.by_id: dict[str, event_pb2.Event] = {}

    def messages(self, role: int | None = None) -> list[str]:
        return [
            "".join(part.text for part in event.message.parts)
            for event in self.events
            if event.WhichOneof("payload") == "message" and role in (None, event.message.role)
        ]

    def replies(self) -> list[str]:
        return self.messages(event_pb2.ROLE_ASSISTANT)

    def kinds(self) -> list[str]:
        return [event.WhichOneof("payload") for event in self.events]


class FakeSession(session_service_pb2_grpc.SessionServiceServicer):
    def __init__(self) -> None:
        self.logs: dict[str, Log] = {}
        self.deltas: list[event_pb2.Delta] = []
        self.delta_frames: list[int] = []
        self.batches: list[int] = []
        self.context_calls = 0
        self.actors: list[str] = []
        self.unavailable = False
        self.refused_calls = 0
        self.held_calls = 0
        self.gate = asyncio.Event()
        self.gate.set()
        """Cleared by a test to hold appends back."""
        self.changed = asyncio.Condition()
        self._cut = asyncio.Event()

    def log(self, session: str) -> Log:
        return self.logs.setdefault(session, Log(session))

    def text(self, run: str) -> str:
        """What a watcher that applies the deltas in order would show."""
        shown = ""
        for delta in self.deltas:
            if delta.run == run:
                shown = delta.text if delta.replace else shown[: delta.offset] + delta.text
        return shown

    async def wait_until(self, predicate, timeout_s: float = 40) -> None:
        async with asyncio.timeout(timeout_s), self.changed:
            await self.changed.wait_for(predicate)

    async def shown(self, run: str, text: str) -> None:
        """Returns once a watcher would show this text of the run."""
        await self.wait_until(lambda: self.text(run) == text)

    def cut_deltas(self) -> None:
        self._cut.set()
        self._cut = asyncio.Event()

    async def append(self, append: session_service_pb2.SessionAppend) -> session_service_pb2.AppendOutcome:
        outcome = session_service_pb2.AppendOutcome()
        log = self.log(append.session)
        if append.epoch and append.epoch < log.mark:
            outcome.refusal.code = 10
            outcome.refusal.reason = "FENCED"
            outcome.refusal.message = f"epoch {append.epoch} is behind {log.mark}"
            outcome.refusal.metadata["mark"] = str(log.mark)
            return outcome
        log.mark = max(log.mark, append.epoch)
        for given in append.events:
            known = log.by_id.get(given.id)
            if known is not None:
                if known.WhichOneof("payload") != given.WhichOneof("payload"):
                    outcome.Clear()
                    outcome.refusal.code = 3
                    outcome.refusal.reason = "EVENT_ID_REUSED"
                    return outcome
                outcome.sequences.append(known.sequence)
                outcome.duplicates.append(True)
                continue
            event = event_pb2.Event()
            event.CopyFrom(given)
            event.sequence = len(log.events) + 1
            event.session = append.session
            event.create_time.FromDatetime(datetime.now(UTC))
            log.events.append(event)
            log.by_id[event.id] = event
            outcome.sequences.append(event.sequence)
            outcome.duplicates.append(False)
        await self._notify()
        return outcome

    async def BatchAppendEvents(self, request, context):
        if self.unavailable:
            self.refused_calls += 1
            await self._notify()
            raise errors.Unavailable("down", reason=errors.DRAINING)
        if not self.gate.is_set():
            self.held_calls += 1
            await self._notify()
            await self.gate.wait()
        await asyncio.sleep(COMMIT_S)
        self.batches.append(len(request.appends))
        response = session_service_pb2.BatchAppendEventsResponse()
        for append in request.appends:
            response.outcomes.append(await self.append(append))
        return response

    async def GetTurnContext(self, request, context):
        self.context_calls += 1
        log = self.log(request.session)
        response = session_service_pb2.GetTurnContextResponse(session=self._session(log))
        for event in log.events:
            if event.run == request.run:
                response.run_events.append(event)
            elif event.WhichOneof("payload") in CONTEXT_KINDS:
                response.events.append(event)
        return response

    async def ListEvents(self, request, context):
        self._check_own(request.parent, context)
        if request.parent not in self.logs:
            raise errors.NotFound("no such session", reason="SESSION_NOT_FOUND")
        log = self.log(request.parent)
        events = [
            event
            for event in log.events
            if (not request.filter.run or event.run == request.filter.run)
            and (not request.filter.kinds or event.WhichOneof("payload") in request.filter.kinds)
            and (not request.filter.before_sequence or event.sequence < request.filter.before_sequence)
        ]
        if request.descending:
            events.reverse()
        return session_service_pb2.ListEventsResponse(events=events[: request.page_size or 200])

    async def ListSessions(self, request, context):
        bots = tuple(f"{bot}/" for bot in request.filter.bots)
        logs = [
            log
            for name, log in self.logs.items()
            if (not bots or name.startswith(bots))
            and request.filter.text.lower() in (name + log.label).lower()
            and (not request.filter.label or request.filter.label == log.label)
        ]
        page = logs[request.offset :][: request.page_size or 100]
        return session_service_pb2.ListSessionsResponse(
            sessions=[self._session(log) for log in page], total_count=len(logs)
        )

    async def ResolveSession(self, request, context):
        reference = request.any or request.key or request.label
        for log in self.logs.values():
            name = resource_names.parse_session(log.name)
            if f"bots/{name.bot}" == request.bot and reference in (name.key, name.session, log.label):
                return session_service_pb2.ResolveSessionResponse(session=self._session(log))
        raise errors.NotFound(f"there is no session {reference}", reason="SESSION_NOT_FOUND")

    async def PublishDeltas(self, request_iterator: AsyncIterator, context):
        reading = asyncio.ensure_future(self._read_deltas(request_iterator))
        cut = asyncio.ensure_future(self._cut.wait())
        try:
            await asyncio.wait([reading, cut], return_when=asyncio.FIRST_COMPLETED)
            if cut.done():
                raise errors.Unavailable("cut", reason=errors.DRAINING)
            await reading
        finally:
            reading.cancel()
            cut.cancel()
        return session_service_pb2.PublishDeltasResponse(accepted_count=len(self.deltas))

    async def _read_deltas(self, requests: AsyncIterator) -> None:
        async for request in requests:
            self.delta_frames.append(len(request.deltas))
            self.deltas.extend(request.deltas)
            await self._notify()

    async def _notify(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    def _session(self, log: Log) -> session_pb2.Session:
        name = resource_names.parse_session(log.name)
        session = session_pb2.Session(
            name=log.name, key=name.key, uid=f"uid-{name.session}", label=log.label, last_sequence=len(log.events)
        )
        session.status = session_pb2.SESSION_STATUS_IDLE
        said = log.messages()
        if said:
            session.last_message_preview = said[-1]
        return session

    def _check_own(self, session: str, context) -> None:
        actor = dict(context.invocation_metadata()).get("mobot-actor", "")
        self.actors.append(actor)
        if actor.startswith("bots/") and not session.startswith(f"{actor}/"):
            raise errors.NotFound("no such session", reason="SESSION_NOT_FOUND")
