"""One question and its answer as it is written: deltas while they come, the committed text where they do not."""

import asyncio
import contextlib
import sys
from datetime import timedelta
from typing import TextIO

import grpc
from google.protobuf import duration_pb2

from chassis import resource_names
from chassis.errors import DeadlineExceeded
from mobot.router.v1 import message_pb2, router_service_pb2
from mobot.session.v1 import event_pb2, session_pb2, session_service_pb2
from mobot_cli.printing import clean_block
from mobot_cli.services import Services
from mobot_cli.transcript import question, text_of

_LOOK_S = 2.0


class Answer:
    """What was printed of one run's answer, so that nothing is printed twice."""

    def __init__(self, run: str, show: TextIO | None) -> None:
        self._run = run
        self._show = show
        self._text = ""
        self._shown = ""

    def take(self, frame: session_service_pb2.WatchEventsResponse) -> bool:
        """Prints what the frame adds; true when the run has ended."""
        ended = False
        for event in frame.events:
            if event.run != self._run:
                continue
            if event.WhichOneof("payload") == "message" and event.message.role == event_pb2.ROLE_ASSISTANT:
                self._replace(text_of(list(event.message.parts)))
            ended = ended or event.WhichOneof("payload") == "run_finished"
        for delta in frame.deltas:
            if delta.run == self._run and delta.kind in (event_pb2.DELTA_KIND_TEXT, event_pb2.DELTA_KIND_UNSPECIFIED):
                self._replace(delta.text if delta.replace else self._text[: delta.offset] + delta.text)
        return ended

    def _replace(self, text: str) -> None:
        # White space at the end may be missing in the committed text: it is printed with what follows it.
        visible = text.rstrip()
        if self._show is not None:
            if visible.startswith(self._shown):
                self._show.write(clean_block(visible[len(self._shown) :]))
            else:
                # A new attempt answers anew: what stands on the screen cannot be taken back.
                self._show.write(f"\n{clean_block(visible)}")
            self._show.flush()
        self._shown = visible
        self._text = text

    def end(self) -> None:
        if self._show is not None and self._shown:
            self._show.write("\n")


async def ask(
    mobot: Services, request: router_service_pb2.SendMessageRequest, *, timeout_s: float, show: TextIO | None
) -> message_pb2.Message:
    """Sends, prints the answer to `show` while it is written, and returns the finished message.

    The watch begins before the message is sent, so that no piece of the answer is missed; when it breaks, the wait
    goes on with the router, whose word on the run's fate is final.

    Raises:
        DeadlineExceeded: the run did not end within `timeout_s` seconds; it goes on.
    """
    session = request.message.session
    await _ensure(mobot, session)
    answer = Answer(request.message.idempotency_key, show)
    watch = mobot.session.WatchEvents(
        session_service_pb2.WatchEventsRequest(sessions=[session], after_sequence=-1, include_deltas=True)
    )
    try:
        await watch.read()
        receipt = (await mobot.router.SendMessage(request)).receipt
        watching = asyncio.create_task(_watch(watch, answer))
        try:
            message = await wait(mobot, receipt.run, timeout_s)
            # The log says the end too, right after the router; its last lines are worth a moment.
            await asyncio.wait({watching}, timeout=2)
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
                await watching
            answer.end()
    finally:
        watch.cancel()
    return message


async def _ensure(mobot: Services, session: str) -> None:
    """A session can be watched once it exists; mail alone would make it only when its turn starts."""
    name = resource_names.parse_session(session)
    await mobot.session.CreateSession(
        session_service_pb2.CreateSessionRequest(
            parent=resource_names.bot_name(name.bot),
            session_id=name.session,
            session=session_pb2.Session(user_created=True, created_via="operator"),
            conflict_policy=session_service_pb2.CONFLICT_POLICY_USE_EXISTING,
        )
    )


async def _watch(
    watch: "grpc.aio.UnaryStreamCall[session_service_pb2.WatchEventsRequest, session_service_pb2.WatchEventsResponse]",
    answer: Answer,
) -> None:
    # One style of reading: the first frame was read already, and grpc refuses to mix it with iteration.
    while isinstance(frame := await watch.read(), session_service_pb2.WatchEventsResponse):
        if answer.take(frame):
            return


async def wait(mobot: Services, run: str, timeout_s: float) -> message_pb2.Message:
    """The message once its run has ended. When it stops to ask a person, standard error says so, and how to answer.

    Raises:
        DeadlineExceeded: it has not after `timeout_s` seconds.
    """
    end = asyncio.get_running_loop().time() + timeout_s
    asked = ""
    while (left := end - asyncio.get_running_loop().time()) > 0:
        timeout = duration_pb2.Duration()
        timeout.FromTimedelta(timedelta(seconds=min(left, _LOOK_S)))
        waited = await mobot.router.WaitRun(router_service_pb2.WaitRunRequest(run=run, timeout=timeout))
        if waited.done:
            return waited.message
        request = waited.message.decision_request
        if waited.message.state != message_pb2.MESSAGE_STATE_NEEDS_DECISION:
            asked = ""
        elif request.question != asked:
            asked = request.question
            sys.stderr.write(f"mobot: {question(waited.message.run, asked, list(request.choices))}\n")
    raise DeadlineExceeded(
        f"no answer within {timeout_s:g} s; the message is safe and goes on. Wait again: mobot mail wait {run}"
    )
