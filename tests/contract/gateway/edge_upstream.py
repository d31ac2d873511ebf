"""Stand-ins for the services behind the gateway: one small world in memory, with faults that tests can order.

Only what the gateway calls is here, and only as far as the contracts say it; the real services have tests of their
own, and the gateway is run against them elsewhere.
"""

import asyncio
import contextlib
import itertools
import uuid
from dataclasses import dataclass, field

import grpc

from chassis import errors
from chassis.resource_names import parse_session
from mobot.registry.v1 import bot_pb2, registry_service_pb2
from mobot.registry.v1.registry_service_pb2_grpc import RegistryServiceServicer
from mobot.router.v1 import message_pb2, router_service_pb2
from mobot.router.v1.router_service_pb2_grpc import RouterServiceServicer
from mobot.session.v1 import event_pb2, part_pb2, session_pb2, session_service_pb2
from mobot.session.v1.session_service_pb2_grpc import SessionServiceServicer

CREDIT = 64
BOTS = ("main", "helper")


def text_part(text):
    return part_pb2.Part(text=text)


@dataclass
class World:
    """The log is one list for all sessions; a watch token is a place in it."""

    sessions: dict = field(default_factory=dict)
    log: list = field(default_factory=list)
    messages: dict = field(default_factory=dict)
    watchers: list = field(default_factory=list)
    rang: asyncio.Condition = field(default_factory=asyncio.Condition)
    answers: bool = True
    words: tuple = ("Hello ", "from ", "the ", "bot.")
    word_pause_s: float = 0.0
    send_breaks_after: int = -1
    send_streams: int = 0
    watch_streams: int = 0
    drafts: list = field(default_factory=list)
    tasks: set = field(default_factory=set)
    clock: "itertools.count" = field(default_factory=lambda: itertools.count(1_800_000_000))

    def session(self, name):
        found = self.sessions.get(name)
        if found is None or found.state == session_pb2.SESSION_STATE_DELETED:
            raise errors.NotFound(f"no {name}", reason="SESSION_NOT_FOUND", metadata={"session": name})
        return found

    def ensure(self, name, **fields):
        if name in self.sessions:
            return self.sessions[name], False
        parsed = parse_session(name)
        if parsed.bot not in BOTS:
            raise errors.NotFound("no bot", reason="BOT_NOT_FOUND", metadata={"bot": f"bots/{parsed.bot}"})
        session = session_pb2.Session(
            name=name, uid=str(uuid.uuid4()), key=parsed.key, state=session_pb2.SESSION_STATE_ACTIVE,
            status=session_pb2.SESSION_STATUS_IDLE, etag="e1",
        )  # fmt: skip
        session.create_time.FromSeconds(next(self.clock))
        for key, value in fields.items():
            setattr(session, key, value)
        self.sessions[name] = session
        self.append(name, session_created=event_pb2.SessionCreated(session=session))
        return session, True

    def append(self, name, *, run="", event_id="", actor="", **payload):
        session = self.sessions[name]
        session.last_sequence += 1
        event = event_pb2.Event(
            sequence=session.last_sequence, id=event_id or str(uuid.uuid4()), session=name, session_uid=session.uid,
            run=run, actor=actor, **payload,
        )  # fmt: skip
        event.create_time.FromSeconds(next(self.clock))
        session.last_activity_time.CopyFrom(event.create_time)
        match event.WhichOneof("payload"):
            case "run_started":
                session.active_runs[:] = [run]
                session.status = session_pb2.SESSION_STATUS_RUNNING
                session.last_run.run = run
                session.last_run.start_time.CopyFrom(event.create_time)
            case "run_finished":
                session.active_runs[:] = []
                session.status = session_pb2.SESSION_STATUS_SUCCEEDED
                session.last_run.outcome = event.run_finished.outcome
                session.last_run.end_time.CopyFrom(event.create_time)
            case "message":
                session.message_count += 1
        snapshot = session_pb2.Session()
        snapshot.CopyFrom(session)
        self.log.append((event, snapshot))
        self.ring()
        return event

    def ring(self):
        for queue in self.watchers:
            queue.put_nowait(None)

    def delta(self, name, run, offset, text, **more):
        delta = event_pb2.Delta(session=name, run=run, offset=offset, text=text, **more)
        for queue in self.watchers:
            queue.put_nowait(delta)

    def cut_watches(self, error=None):
        for queue in self.watchers:
            queue.put_nowait(error or errors.Unavailable("draining", reason=errors.DRAINING))

    def accept(self, draft):
        known = self.messages.get(draft.idempotency_key)
        if known is not None:
            if known.draft.parts != draft.parts:
                raise errors.InvalidArgument("other content", reason="IDEMPOTENCY_KEY_REUSED")
            return message_pb2.Receipt(
                message=known.name, run=known.run, session=known.session, state=known.state, duplicate=True
            )
        bot = draft.session.split("/")[1]
        if bot not in BOTS:
            raise errors.NotFound("no bot", reason="BOT_NOT_FOUND", metadata={"bot": f"bots/{bot}"})
        self.drafts.append(draft)
        message = message_pb2.Message(
            name=f"messages/{len(self.messages)}", run=draft.idempotency_key, session=draft.session,
            state=message_pb2.MESSAGE_STATE_QUEUED, draft=draft,
        )  # fmt: skip
        message.create_time.FromSeconds(next(self.clock))
        self.messages[message.run] = message
        if self.answers:
            task = asyncio.create_task(self.turn(message))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        return message_pb2.Receipt(message=message.name, run=message.run, session=message.session, state=message.state)

    async def turn(self, message):
        self.start_turn(message)
        said = ""
        for word in self.words:
            self.delta(message.session, message.run, len(said), word)
            said += word
            await asyncio.sleep(self.word_pause_s)
            if message.state == message_pb2.MESSAGE_STATE_CANCELLED:
                self.say(message, said, partial=True)
                self.finish(message, session_pb2.RUN_OUTCOME_CANCELLED)
                return
        self.say(message, said)
        self.finish(message, session_pb2.RUN_OUTCOME_SUCCEEDED)

    def start_turn(self, message):
        name, run = message.session, message.run
        self.ensure(name, created_via="operator")
        message.state = message_pb2.MESSAGE_STATE_RUNNING
        message.start_time.FromSeconds(next(self.clock))
        inbound = event_pb2.MessageAppended(
            role=event_pb2.ROLE_USER, parts=message.draft.parts, source="operators/root", message_id=message.name,
            idempotency_key=run,
        )  # fmt: skip
        self.append(name, run=run, event_id=f"message/{message.name}", message=inbound)
        self.append(name, run=run, event_id=f"run/{run}/started/1", run_started=event_pb2.RunStarted(attempt=1))

    def say(self, message, text, *, partial=False):
        reply = event_pb2.MessageAppended(
            role=event_pb2.ROLE_ASSISTANT, parts=[text_part(text)], model="mobot/echo", partial=partial,
            stop_reason="aborted" if partial else "stop", usage=part_pb2.Usage(input_tokens=3, output_tokens=4),
        )  # fmt: skip
        self.append(message.session, run=message.run, event_id=f"run/{message.run}/reply", message=reply)
        message.reply_text = text

    def finish(self, message, outcome, **fields):
        states = {
            session_pb2.RUN_OUTCOME_SUCCEEDED: message_pb2.MESSAGE_STATE_SUCCEEDED,
            session_pb2.RUN_OUTCOME_CANCELLED: message_pb2.MESSAGE_STATE_CANCELLED,
        }
        message.state = states.get(outcome, message_pb2.MESSAGE_STATE_FAILED)
        message.end_time.FromSeconds(next(self.clock))
        if fields.get("error_message"):
            message.last_error.message = fields["error_message"]
        finished = event_pb2.RunFinished(outcome=outcome, attempts=1, **fields)
        self.append(message.session, run=message.run, event_id=f"run/{message.run}/finished", run_finished=finished)


class Sessions(SessionServiceServicer):
    def __init__(self, world):
        self.world = world

    async def CreateSession(self, request, context):
        name = f"{request.parent}/sessions/{request.session_id or f'dashboard:{uuid.uuid4()}'}"
        label = request.session.label
        parent = self.world.sessions.get(request.session.parent)
        if request.succeeds_parent and parent is not None and parent.persistent:
            metadata = {"session": parent.name, "label": parent.label}
            raise errors.FailedPrecondition("protected", reason="SESSION_PERSISTENT", metadata=metadata)
        for other in self.world.sessions.values():
            if label and other.label == label and other.name != name:
                raise errors.AlreadyExists("label", reason="LABEL_IN_USE", metadata={"label": label})
        known = self.world.sessions.get(name)
        if known is not None and known.state == session_pb2.SESSION_STATE_DELETED:
            raise errors.FailedPrecondition("deleted", reason="SESSION_DELETED", metadata={"session": name})
        given = request.session
        session, created = self.world.ensure(
            name, label=label, persistent=given.persistent, description=given.description,
            created_via=given.created_via, user_created=given.user_created, parent=given.parent,
        )  # fmt: skip
        if not created and request.conflict_policy == session_service_pb2.CONFLICT_POLICY_FAIL:
            raise errors.AlreadyExists("exists", reason="SESSION_ALREADY_EXISTS", metadata={"session": name})
        return session_service_pb2.CreateSessionResponse(session=session, created=created)

    async def GetSession(self, request, context):
        return session_service_pb2.GetSessionResponse(session=self.world.session(request.name))

    async def ResolveSession(self, request, context):
        kind = request.WhichOneof("reference")
        value = getattr(request, kind)
        for session in self.world.sessions.values():
            if value in {"key": (session.key, session.name.split("/")[3]), "uid": (session.uid,),
                         "label": (session.label,)}.get(kind, ()):  # fmt: skip
                return session_service_pb2.ResolveSessionResponse(session=session)
        raise errors.NotFound("none", reason="SESSION_NOT_FOUND")

    async def ListSessions(self, request, context):
        wanted = request.filter
        found = [
            session
            for session in self.world.sessions.values()
            if session.state in (wanted.states or [session_pb2.SESSION_STATE_ACTIVE])
            and (not wanted.bots or "/".join(session.name.split("/")[:2]) in wanted.bots)
            and wanted.text.lower() in f"{session.name} {session.label}".lower()
        ]
        found.sort(key=lambda session: (not session.pinned, -session.last_sequence, session.name))
        start = int(request.page_token) if request.page_token else request.offset
        size = request.page_size or 100
        return session_service_pb2.ListSessionsResponse(
            sessions=found[start : start + size],
            next_page_token=str(start + size) if start + size < len(found) else "",
            as_of=f"t{len(self.world.log)}",
            total_count=len(found),
        )

    async def UpdateSession(self, request, context):
        session, _ = self.world.ensure(request.session.name, created_via="operator")
        if request.expected_uid and request.expected_uid != session.uid:
            raise errors.Aborted("changed", reason="SESSION_CHANGED")
        for path in request.update_mask.paths:
            field_name, _, key = path.partition(".")
            if key:
                session.overrides.pop(key, None)
                if key in request.session.overrides:
                    session.overrides[key] = request.session.overrides[key]
            else:
                setattr(session, field_name, getattr(request.session, field_name))
        self.world.append(session.name, session_updated=event_pb2.SessionUpdated(paths=list(request.update_mask.paths)))
        return session_service_pb2.UpdateSessionResponse(session=session)

    async def ResetSession(self, request, context):
        session = self.world.session(request.name)
        if session.persistent:
            metadata = {"session": session.name, "label": session.label}
            raise errors.FailedPrecondition("protected", reason="SESSION_PERSISTENT", metadata=metadata)
        if request.expected_uid and request.expected_uid != session.uid:
            raise errors.Aborted("the session changed", reason="SESSION_CHANGED")
        if request.validate_only:
            return session_service_pb2.ResetSessionResponse(session=session)
        previous, session.uid = session.uid, str(uuid.uuid4())
        session.previous_uid, session.start_sequence = previous, session.last_sequence
        reset = event_pb2.SessionReset(previous_uid=previous, uid=session.uid, reason=request.reason)
        self.world.append(session.name, session_reset=reset)
        return session_service_pb2.ResetSessionResponse(session=session)

    async def DeleteSession(self, request, context):
        if request.name.endswith("/sessions/main"):
            raise errors.FailedPrecondition("main", reason="SESSION_IS_MAIN", metadata={"session": request.name})
        session = self.world.sessions.get(request.name)
        if session is None or session.state == session_pb2.SESSION_STATE_DELETED:
            return session_service_pb2.DeleteSessionResponse(deleted=False)
        if session.persistent and not request.expected_uid:
            metadata = {"session": session.name, "field": "expected_uid"}
            raise errors.FailedPrecondition("confirm", reason="CONFIRMATION_REQUIRED", metadata=metadata)
        if request.expected_uid and request.expected_uid != session.uid:
            raise errors.Aborted("the session changed", reason="SESSION_CHANGED")
        session.state = session_pb2.SESSION_STATE_DELETED
        self.world.append(session.name, session_deleted=event_pb2.SessionDeleted())
        return session_service_pb2.DeleteSessionResponse(session=session, deleted=True)

    async def UndeleteSession(self, request, context):
        session = self.world.sessions[request.name]
        session.state = session_pb2.SESSION_STATE_ACTIVE
        self.world.append(session.name, session_undeleted=event_pb2.SessionUndeleted())
        return session_service_pb2.UndeleteSessionResponse(session=session)

    async def ArchiveSession(self, request, context):
        session = self.world.session(request.name)
        session.state = session_pb2.SESSION_STATE_ARCHIVED
        self.world.append(session.name, session_archived=event_pb2.SessionArchived())
        return session_service_pb2.ArchiveSessionResponse(session=session)

    async def UnarchiveSession(self, request, context):
        session = self.world.session(request.name)
        session.state = session_pb2.SESSION_STATE_ACTIVE
        self.world.append(session.name, session_unarchived=event_pb2.SessionUnarchived())
        return session_service_pb2.UnarchiveSessionResponse(session=session)

    async def ListGroups(self, request, context):
        group = session_pb2.SessionGroup(group="dev", position=0)
        return session_service_pb2.ListGroupsResponse(groups=[group])

    async def AppendEvents(self, request, context):
        append = request.append
        self.world.ensure(append.session, created_via="operator")
        appended = [
            self.world.append(append.session, run=event.run, event_id=event.id, message=event.message)
            for event in append.events
        ]
        return session_service_pb2.AppendEventsResponse(sequences=[event.sequence for event in appended])

    async def ListEvents(self, request, context):
        session = self.world.session(request.parent)
        wanted = request.filter
        found = [
            event
            for event, _ in self.world.log
            if event.session == request.parent
            and (wanted.session_uid == "*" or event.session_uid == session.uid)
            and (not wanted.kinds or event.WhichOneof("payload") in wanted.kinds)
            and (not wanted.run or event.run == wanted.run)
            and event.sequence > wanted.after_sequence
        ]
        if request.descending:
            found.reverse()
        start, size = int(request.page_token or 0), request.page_size or 200
        return session_service_pb2.ListEventsResponse(
            events=found[start : start + size],
            next_page_token=str(start + size) if start + size < len(found) else "",
            total_count=len(found) if request.count_total else 0,
            session=session,
        )

    async def WatchEvents(self, request, context):
        world = self.world
        if request.resume_token and not request.resume_token.startswith("t"):
            raise errors.InvalidArgument("bad token", reason="WATCH_TOKEN_INVALID")
        world.watch_streams += 1
        place = int(request.resume_token[1:]) if request.resume_token else len(world.log)
        queue = asyncio.Queue()
        world.watchers.append(queue)
        try:
            caught_up = False
            while True:
                fresh, place = world.log[place:], len(world.log)
                yield session_service_pb2.WatchEventsResponse(
                    events=[event for event, _ in fresh], sessions=[session for _, session in fresh],
                    resume_token=f"t{place}", caught_up=not caught_up, checkpoint=not fresh,
                )  # fmt: skip
                caught_up = True
                while True:
                    item = await queue.get()
                    if isinstance(item, errors.AppError):
                        raise item
                    if item is None:
                        break
                    yield session_service_pb2.WatchEventsResponse(deltas=[item], resume_token=f"t{place}")
        finally:
            world.watchers.remove(queue)


class Router(RouterServiceServicer):
    def __init__(self, world):
        self.world = world

    async def Send(self, requests, context):
        world = self.world
        world.send_streams += 1
        yield router_service_pb2.SendResponse(credit=CREDIT)
        async for request in requests:
            outcomes = []
            for number, draft in enumerate(request.messages, start=request.first_number):
                outcomes.append(self.outcome(number, draft))
                if world.send_breaks_after == 0:
                    world.send_breaks_after = -1
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "the router went away")
                world.send_breaks_after -= 1
            yield router_service_pb2.SendResponse(outcomes=outcomes, credit=len(outcomes))

    def outcome(self, number, draft):
        try:
            return router_service_pb2.SendOutcome(number=number, receipt=self.world.accept(draft))
        except errors.AppError as error:
            code = grpc.StatusCode[error.code].value[0]
            refusal = message_pb2.Refusal(
                code=code, reason=error.reason, message=error.message, metadata=error.metadata
            )
            return router_service_pb2.SendOutcome(number=number, refusal=refusal)

    async def CancelRun(self, request, context):
        runs = [request.run] if request.run else [
            run for run, message in self.world.messages.items() if message.session == request.session
        ]  # fmt: skip
        cancelled = []
        for run in runs:
            message = self.world.messages.get(run)
            if message is None:
                raise errors.NotFound("no such run", reason="MESSAGE_NOT_FOUND")
            if message.state == message_pb2.MESSAGE_STATE_RUNNING:
                message.state = message_pb2.MESSAGE_STATE_CANCELLED
                cancelled.append(run)
        return router_service_pb2.CancelRunResponse(cancelled_runs=cancelled)

    async def WaitRun(self, request, context):
        message = self.world.messages.get(request.run)
        if message is None:
            raise errors.NotFound("no such run", reason="MESSAGE_NOT_FOUND")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(request.timeout.ToNanoseconds() / 1e9):
                while not message.HasField("end_time"):  # noqa: ASYNC110 - protobuf messages ring no bell
                    await asyncio.sleep(0.005)
        return router_service_pb2.WaitRunResponse(message=message, done=message.HasField("end_time"))

    async def ListMessages(self, request, context):
        found = [
            message
            for message in self.world.messages.values()
            if message.session == request.filter.session and message.state in request.filter.states
        ]
        return router_service_pb2.ListMessagesResponse(messages=found[: request.page_size])


class Registry(RegistryServiceServicer):
    async def ListBots(self, request, context):
        bots = [
            bot_pb2.Bot(
                name=f"bots/{bot}", display_name=bot.title(), emoji="🤖", brain=bot_pb2.Brain(echo=bot_pb2.EchoBrain())
            )
            for bot in BOTS
        ]
        return registry_service_pb2.ListBotsResponse(bots=bots)
