"""A router in memory: a mailbox per session, one lease each, epochs, retries, cancellation and settlements."""

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator

from chassis import errors
from mobot.router.v1 import message_pb2, router_service_pb2, router_service_pb2_grpc
from mobot.session.v1 import event_pb2, part_pb2, session_pb2, session_service_pb2
from sdk_fakes.session import FakeSession

ENDED = {
    message_pb2.MESSAGE_STATE_SUCCEEDED: session_pb2.RUN_OUTCOME_SUCCEEDED,
    message_pb2.MESSAGE_STATE_FAILED: session_pb2.RUN_OUTCOME_FAILED,
    message_pb2.MESSAGE_STATE_CANCELLED: session_pb2.RUN_OUTCOME_CANCELLED,
    message_pb2.MESSAGE_STATE_DEAD_LETTERED: session_pb2.RUN_OUTCOME_DEAD_LETTERED,
}

UNWRITTEN = message_pb2.Refusal(code=14, reason="", message="the database cannot be written")


class Mailbox:
    def __init__(self, session: str) -> None:
        self.session = session
        self.queue: deque[message_pb2.Message] = deque()
        self.leased: message_pb2.Message | None = None
        self.epoch = 0


class Attached:
    def __init__(self, hello: router_service_pb2.AttachHello) -> None:
        self.worker = hello.worker
        self.bots = set(hello.bots)
        self.window = hello.credit
        self.in_flight = 0
        self.most_in_flight = 0
        self.draining = False
        self.frames: asyncio.Queue[router_service_pb2.AttachResponse] = asyncio.Queue()
        self.cut = asyncio.Event()


class FakeRouter(router_service_pb2_grpc.RouterServiceServicer):
    def __init__(self, session: FakeSession, *, max_attempts: int = 5) -> None:
        self.session = session
        self.max_attempts = max_attempts
        self.mailboxes: dict[str, Mailbox] = {}
        self.waiting: dict[str, Mailbox] = {}
        self.messages: dict[str, message_pb2.Message] = {}
        self.workers: list[Attached] = []
        self.hellos: list[router_service_pb2.AttachHello] = []
        self.frames_read: list[router_service_pb2.AttachRequest] = []
        self.begun: list[str] = []
        self.refuse_attach: errors.AppError | None = None
        self.drafts: list[message_pb2.MessageDraft] = []
        self.replies: dict[str, str] = {}
        self.spawns: list[router_service_pb2.SpawnSessionRequest] = []
        self.asked: set[str] = set()
        self.late: set[str] = set()
        """Runs whose asker has given up waiting: a reply is mail to it."""
        self.collect: list[message_pb2.Message] = []
        """For the next delivery: messages that are worked on with it."""
        self.failures: list[message_pb2.Failure] = []
        self.changed = asyncio.Condition()
        self.hold_settlements = False
        self.hold_receipts = False
        self.unwritable = 0
        """So many results and steps are refused next, as by a router that cannot write."""
        self.lose_on_attach: set[str] = set()
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Task] = set()

    # For tests

    async def send(self, session: str, text: str, *, key: str = "", decision: str = "", **fields) -> str:
        """Accepts a message and returns its run."""
        draft = message_pb2.MessageDraft(
            session=session, parts=[part_pb2.Part(text=text)], idempotency_key=key, user_input=True, **fields
        )
        return (await self.accept(draft, "operators/root")).run

    async def wait(self, run: str, *states: str, timeout_s: float = 40) -> message_pb2.Message:
        """Returns the message once it is in one of the states (by default any end)."""
        wanted = {message_pb2.MessageState.Value(f"MESSAGE_STATE_{state}") for state in states} or set(ENDED)
        async with asyncio.timeout(timeout_s), self.changed:
            await self.changed.wait_for(lambda: self.messages[run].state in wanted)
        return self.messages[run]

    async def wait_until(self, predicate, timeout_s: float = 40) -> None:
        async with asyncio.timeout(timeout_s), self.changed:
            await self.changed.wait_for(predicate)

    async def cancel(self, run: str, *, lease_lost: bool = False, reason: str = "asked") -> None:
        message = self.messages[run]
        cancellation = message_pb2.Cancellation(run=run, epoch=message.epoch, reason=reason, lease_lost=lease_lost)
        for worker in self.workers:
            worker.frames.put_nowait(router_service_pb2.AttachResponse(cancellations=[cancellation]))

    async def steer(self, run: str, text: str, steered: str) -> None:
        """Hands a message to the running turn of `run`; `steered` is the run of that message."""
        steering = message_pb2.Steering(run=run, epoch=self.messages[run].epoch)
        steering.message.run = steered
        steering.message.draft.parts.append(part_pb2.Part(text=text))
        for worker in self.workers:
            worker.frames.put_nowait(router_service_pb2.AttachResponse(steerings=[steering]))

    def cut(self) -> None:
        """Breaks every stream; leases stay."""
        for worker in self.workers:
            worker.cut.set()

    async def take_lease_away(self, run: str) -> None:
        """What happens when a lease ends: the session's mark goes up and the next attempt is queued."""
        message = self.messages[run]
        mailbox = self.mailboxes[message.session]
        mailbox.leased = None
        mailbox.epoch += 1
        self.session.log(message.session).mark = mailbox.epoch
        message.state = message_pb2.MESSAGE_STATE_QUEUED
        mailbox.queue.appendleft(message)
        self.waiting[mailbox.session] = mailbox

    async def pump(self) -> None:
        for mailbox in list(self.waiting.values()):
            if not any(worker.in_flight < worker.window for worker in self.workers):
                return
            await self._lease(mailbox)

    # The service

    async def SendMessage(self, request, context):
        actor = dict(context.invocation_metadata()).get("mobot-actor", "operators/root")
        return router_service_pb2.SendMessageResponse(receipt=await self.accept(request.message, actor))

    async def AskMessage(self, request, context):
        actor = dict(context.invocation_metadata()).get("mobot-actor", "operators/root")
        draft = message_pb2.MessageDraft()
        draft.CopyFrom(request.message)
        self.asked.add(draft.idempotency_key)
        receipt = await self.accept(draft, actor)
        try:
            await self.wait(receipt.run, timeout_s=request.timeout.ToNanoseconds() / 1e9)
        except TimeoutError:
            self.late.add(receipt.run)
            raise errors.DeadlineExceeded("no reply came in time", reason="REPLY_TIMEOUT") from None
        return router_service_pb2.AskMessageResponse(receipt=receipt, message=self._told(receipt.run))

    async def GetMessage(self, request, context):
        if request.run not in self.messages:
            raise errors.NotFound("no such run", reason="MESSAGE_NOT_FOUND")
        return router_service_pb2.GetMessageResponse(message=self._told(request.run))

    async def CancelRun(self, request, context):
        await self.cancel(request.run, reason=request.reason)
        return router_service_pb2.CancelRunResponse(cancelled_runs=[request.run])

    async def SpawnSession(self, request, context):
        actor = dict(context.invocation_metadata()).get("mobot-actor", "operators/root")
        self.spawns.append(request)
        spawn = request.spawn
        bot = spawn.bot or spawn.parent.partition("/sessions/")[0]
        child = f"{bot}/sessions/{spawn.session_id or f'subagent:{request.request_id}'}"
        created = child not in self.mailboxes
        fails = spawn.conflict_policy == message_pb2.SPAWN_CONFLICT_POLICY_FAIL
        if request.request_id not in self.messages and not created and fails:
            raise errors.FailedPrecondition("the child exists", reason="SESSION_ALREADY_EXISTS")
        draft = message_pb2.MessageDraft(
            session=child,
            parts=spawn.task,
            idempotency_key=request.request_id,
            source=spawn.parent,
            reply_to=spawn.parent if spawn.announce else "",
        )
        return router_service_pb2.SpawnSessionResponse(receipt=await self.accept(draft, actor), created=created)

    async def GetMailboxStats(self, request, context):
        mailbox = self.mailboxes.get(request.session)
        stats = (
            []
            if mailbox is None
            else [
                message_pb2.MailboxStats(
                    session=request.session,
                    queued_count=len(mailbox.queue),
                    in_flight_count=int(mailbox.leased is not None),
                )
            ]
        )
        return router_service_pb2.GetMailboxStatsResponse(mailboxes=stats)

    def _told(self, run: str) -> message_pb2.Message:
        message = message_pb2.Message()
        message.CopyFrom(self.messages[run])
        message.reply_text = self.replies.get(run, "")
        return message

    def _asked(self, run: str) -> bool:
        """Whether somebody waits for the run in a call of AskMessage."""
        return run in self.asked

    async def WaitRun(self, request, context):
        if request.run not in self.messages:
            raise errors.NotFound("no such run", reason="MESSAGE_NOT_FOUND")
        done = True
        try:
            await self.wait(request.run, timeout_s=request.timeout.ToNanoseconds() / 1e9)
        except TimeoutError:
            done = False
        return router_service_pb2.WaitRunResponse(message=self._told(request.run), done=done)

    async def Attach(self, request_iterator: AsyncIterator, context):
        if self.refuse_attach is not None:
            await self._notify()
            raise self.refuse_attach
        first = await anext(request_iterator)
        worker = Attached(first.hello)
        self.hellos.append(first.hello)
        for other in [other for other in self.workers if other.worker == worker.worker]:
            other.cut.set()
            self.workers.remove(other)
        self.workers.append(worker)
        welcome = router_service_pb2.AttachWelcome()
        welcome.lease_duration.FromSeconds(15)
        for held in first.hello.held_leases:
            message = self.messages.get(held.run)
            live = (
                message is not None
                and held.run not in self.lose_on_attach
                and self.mailboxes[message.session].leased is message
                and message.epoch == held.epoch
            )
            (welcome.confirmed_leases if live else welcome.lost_leases).append(held)
            worker.in_flight += live
        yield router_service_pb2.AttachResponse(welcome=welcome)
        await self._notify()
        reading = asyncio.ensure_future(self._read(worker, request_iterator))
        cut = asyncio.ensure_future(worker.cut.wait())
        try:
            await self.pump()
            while True:
                frame = asyncio.ensure_future(worker.frames.get())
                await asyncio.wait([frame, cut, reading], return_when=asyncio.FIRST_COMPLETED)
                if frame.done():
                    together = frame.result()
                    while not worker.frames.empty():
                        together.MergeFrom(worker.frames.get_nowait())
                    yield together
                    continue
                frame.cancel()
                if cut.done():
                    raise errors.Unavailable("cut", reason=errors.DRAINING)
                await reading
                return
        finally:
            reading.cancel()
            cut.cancel()
            if worker in self.workers:
                self.workers.remove(worker)

    async def _read(self, worker: Attached, requests: AsyncIterator) -> None:
        async for frame in requests:
            self.frames_read.append(frame)
            self.begun.extend(held.run for held in frame.begun)
            if frame.bots:
                worker.bots = set(frame.bots)
            worker.draining |= frame.drain
            settlements = []
            touched = []
            for completion in frame.completions:
                if self._cannot_write():
                    settlement = message_pb2.Settlement(run=completion.run, epoch=completion.epoch)
                    settlement.refusal.CopyFrom(UNWRITTEN)
                    settlements.append(settlement)
                    continue
                settlements.append(await self._complete(worker, completion, touched))
            for failure in frame.failures:
                settlements.append(await self._fail(worker, failure, touched))
            receipts = [self._receipt(step) for step in frame.steps]
            if receipts and not self.hold_receipts:
                worker.frames.put_nowait(router_service_pb2.AttachResponse(step_receipts=receipts))
            if settlements and not self.hold_settlements:
                worker.frames.put_nowait(router_service_pb2.AttachResponse(settlements=settlements))
            for mailbox in touched:
                await self._lease(mailbox)
            await self.pump()
            await self._notify()

    def _receipt(self, step: message_pb2.RunStep) -> message_pb2.StepReceipt:
        receipt = message_pb2.StepReceipt(run=step.run, epoch=step.epoch, step=step.step)
        if self._cannot_write():
            receipt.refusal.CopyFrom(UNWRITTEN)
        return receipt

    def _cannot_write(self) -> bool:
        self.unwritable -= 1
        return self.unwritable >= 0

    async def accept(self, draft: message_pb2.MessageDraft, sender: str) -> message_pb2.Receipt:
        self.drafts.append(draft)
        session = draft.session or f"{draft.bot}/sessions/main"
        if "nosuch" in session:
            raise errors.NotFound("there is no such bot", reason="BOT_NOT_FOUND", metadata={"bot": "bots/nosuch"})
        number = next(self._numbers)
        run = draft.idempotency_key or f"run-{number}"
        known = self.messages.get(run)
        if known is not None:
            return message_pb2.Receipt(
                message=known.name, run=run, session=known.session, state=known.state, duplicate=True
            )
        message = message_pb2.Message(
            name=f"messages/{number}",
            run=run,
            session=session,
            state=message_pb2.MESSAGE_STATE_QUEUED,
            draft=draft,
            sender=sender,
        )
        self.messages[run] = message
        mailbox = self.mailboxes.setdefault(session, Mailbox(session))
        position = len(mailbox.queue)
        mailbox.queue.append(message)
        await self._lease(mailbox)
        return message_pb2.Receipt(
            message=message.name,
            run=run,
            session=session,
            state=message_pb2.MESSAGE_STATE_QUEUED,
            queue_position=position,
        )

    async def _lease(self, mailbox: Mailbox) -> None:
        self.waiting.pop(mailbox.session, None)
        if mailbox.leased is not None or not mailbox.queue:
            return
        bot = mailbox.session.partition("/sessions/")[0]
        for worker in self.workers:
            if bot in worker.bots and worker.in_flight < worker.window and not worker.draining:
                break
        else:
            self.waiting[mailbox.session] = mailbox
            return
        message = mailbox.queue.popleft()
        mailbox.leased = message
        mailbox.epoch += 1
        message.attempts += 1
        message.epoch = mailbox.epoch
        message.state = message_pb2.MESSAGE_STATE_LEASED
        worker.in_flight += 1
        worker.most_in_flight = max(worker.most_in_flight, worker.in_flight)
        inbound = event_pb2.Event(id=f"message/{message.name}", run=message.run)
        inbound.message.role = event_pb2.ROLE_USER
        inbound.message.parts.extend(message.draft.parts)
        inbound.message.source = message.draft.source
        inbound.message.inter_session = not message.draft.user_input
        started = event_pb2.Event(id=f"run/{message.run}/started/{message.attempts}", run=message.run)
        started.run_started.attempt = message.attempts
        outcome = await self.session.append(
            session_service_pb2.SessionAppend(session=mailbox.session, epoch=mailbox.epoch, events=[inbound, started])
        )
        delivery = message_pb2.Delivery(
            message=message,
            session=mailbox.session,
            epoch=mailbox.epoch,
            attempt=message.attempts,
            sequence=outcome.sequences[0],
            bot=bot,
            collected=self.collect,
        )
        self.collect = []
        worker.frames.put_nowait(router_service_pb2.AttachResponse(deliveries=[delivery]))

    def _leased(self, run: str, epoch: int) -> Mailbox | None:
        message = self.messages.get(run)
        if message is None:
            return None
        mailbox = self.mailboxes[message.session]
        return mailbox if mailbox.leased is message and message.epoch == epoch else None

    def _refused(self, run: str, epoch: int) -> message_pb2.Settlement:
        settlement = message_pb2.Settlement(run=run, epoch=epoch)
        settlement.refusal.code = 10
        settlement.refusal.reason = "LEASE_LOST"
        return settlement

    async def _complete(self, worker, completion, touched):
        mailbox = self._leased(completion.run, completion.epoch)
        if mailbox is None:
            return self._refused(completion.run, completion.epoch)
        worker.in_flight -= 1
        touched.append(mailbox)
        self.replies[completion.run] = "".join(part.text for part in completion.reply)
        draft = mailbox.leased.draft
        if draft.reply_to and completion.reply and (completion.run in self.late or not self._asked(completion.run)):
            reply = message_pb2.MessageDraft(
                session=draft.reply_to,
                parts=completion.reply,
                source=mailbox.session,
                idempotency_key=f"reply/{completion.run}",
            )
            await self.accept(reply, mailbox.session.partition("/sessions/")[0])
        for draft in completion.outbox:
            await self.accept(draft, mailbox.session.partition("/sessions/")[0])
        return await self._close(mailbox, completion, message_pb2.MESSAGE_STATE_SUCCEEDED)

    async def _fail(self, worker, failure, touched):
        mailbox = self._leased(failure.run, failure.epoch)
        if mailbox is None:
            return self._refused(failure.run, failure.epoch)
        worker.in_flight -= 1
        self.failures.append(failure)
        message = mailbox.leased
        message.last_error.CopyFrom(failure.error)
        if failure.cancelled:
            touched.append(mailbox)
            return await self._close(mailbox, failure, message_pb2.MESSAGE_STATE_CANCELLED)
        if not failure.retryable or message.attempts >= self.max_attempts:
            touched.append(mailbox)
            state = message_pb2.MESSAGE_STATE_DEAD_LETTERED if failure.retryable else message_pb2.MESSAGE_STATE_FAILED
            return await self._close(mailbox, failure, state)
        mailbox.leased = None
        message.state = message_pb2.MESSAGE_STATE_QUEUED
        mailbox.queue.appendleft(message)
        touched.append(mailbox)
        return message_pb2.Settlement(run=failure.run, epoch=failure.epoch, state=message.state)

    async def _close(self, mailbox: Mailbox, result, state: int) -> message_pb2.Settlement:
        message = mailbox.leased
        mailbox.leased = None
        message.state = state
        finished = event_pb2.Event(id=f"run/{message.run}/finished", run=message.run)
        finished.run_finished.outcome = ENDED[state]
        await self.session.append(
            session_service_pb2.SessionAppend(session=mailbox.session, epoch=0, events=[finished])
        )
        return message_pb2.Settlement(run=message.run, epoch=result.epoch, state=state)

    async def _notify(self) -> None:
        async with self.changed:
            self.changed.notify_all()
