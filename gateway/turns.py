"""What clients hear about a turn: the session service's events and deltas as client events, in the clients' order.

No I/O: a `TurnFeed` is fed frames of a watch and hands what comes out to its sink. Each runId gets exactly one
terminal `chat` event, because the log holds exactly one `run_finished` for it and a watch sends each event once.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from gateway import frames
from gateway.keys import agent_of, key_of
from gateway.outbox import Event, StreamDelta
from gateway.run_end import error_text, terminal_fields
from gateway.run_text import RunText
from gateway.shapes import millis, session_row
from gateway.transcript import content_of, envelope_of, message_of, text_of
from mobot.session.v1 import event_pb2, session_pb2, session_service_pb2

# Runs that are streamed at once, and finished ones remembered so that none is finished twice.
_MAX_RUNS = 10_000


class Audience(Enum):
    """Who gets an event."""

    ALL = "all"
    SESSIONS = "sessions"  # who subscribed to sessions
    MESSAGES = "messages"  # who subscribed to sessions, or to this session's messages
    TOOLS = "tools"  # who announced the capability "tool-events"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One client event and whom it is for. `sequence` is the log's, 0 for what is in no log."""

    what: Event | StreamDelta
    audience: Audience = Audience.ALL
    key: str = ""
    sequence: int = 0


Sink = Callable[[Outgoing], None]


@dataclass(slots=True)
class _Run:
    """A run as far as this feed has seen it."""

    run: str
    key: str
    agent: str
    seq: int = 0
    start_ms: int = 0
    streamed: RunText = field(default_factory=RunText)
    last_message: dict[str, Any] | None = None
    seen_from_start: bool = False

    def head(self) -> dict[str, object]:
        return {"runId": self.run, "sessionKey": self.key, "agentId": self.agent, "seq": self.seq}


@dataclass(slots=True)
class TurnFeed:
    """Translates frames. `now_ms` is the time in milliseconds since the epoch.

    While `is_heard` is false nothing is handed out; the feed only keeps track, so that it can go on at any moment.
    """

    sink: Sink
    now_ms: Callable[[], int]
    is_heard: Callable[[], bool] = lambda: True
    _runs: "OrderedDict[str, _Run]" = field(default_factory=OrderedDict)
    _finished: "OrderedDict[str, None]" = field(default_factory=OrderedDict)
    _unsent: dict[str, _Run] = field(default_factory=dict)
    _sequence: int = 0
    _heard: bool = True

    def feed(self, frame: session_service_pb2.WatchEventsResponse) -> None:
        """One frame: its events, then its deltas. Deltas wait for `flush`."""
        self._heard = self.is_heard()
        rows = {session.name: session_row(session) for session in frame.sessions} if self._heard else {}
        for event in frame.events:
            self._sequence = event.sequence
            self._event(event, rows.get(event.session))
        self._sequence = 0
        for delta in frame.deltas:
            self._delta(delta)

    def flush(self) -> None:
        """Sends the text that deltas have brought since the last flush."""
        for run in tuple(self._unsent.values()):
            self._flush(run)

    @property
    def has_unsent(self) -> bool:
        return bool(self._unsent)

    def text_of_run(self, run: str) -> str:
        """The streamed text of a run in flight so far, "" when there is none."""
        known = self._runs.get(run)
        return known.streamed.text if known else ""

    def lacks_message_of(self, event: event_pb2.Event) -> bool:
        """Whether the run ended by `event` began before this feed did, so that its last message is not known."""
        if event.WhichOneof("payload") != "run_finished" or event.run in self._finished:
            return False
        run = self._runs.get(event.run)
        return run is None or (run.last_message is None and not run.seen_from_start)

    def learn_message(self, message: event_pb2.Event) -> None:
        """Tells the feed a run's last message, read from the log."""
        self._run_of(message).last_message = message_of(message)

    # One event of the log.

    def _event(self, event: event_pb2.Event, row: Mapping[str, Any] | None) -> None:
        match event.WhichOneof("payload"):
            case "message":
                self._message(event, row)
            case "tool_called":
                self._tool_called(event)
            case "tool_returned":
                self._tool_returned(event)
            case "run_started":
                self._run_started(event, row)
            case "run_retrying":
                self._run_retrying(event)
            case "run_finished":
                self._run_finished(event, row)
            case "decision_requested":
                self._decision_requested(event)
            case "session_created" | "session_undeleted":
                self._changed(event, row, reason="create")
            case "session_updated" | "session_archived" | "session_unarchived":
                self._changed(event, row, reason="patch")
            case "session_reset":
                self._changed(event, row, reason="reset")
                self._session_message(event, row)
            case "expiry_warned":
                self._changed(event, row, reason="expiry", expires_ms=millis(event.expiry_warned.expire_time))
            case "session_deleted":
                self._changed(event, None, reason="delete")
                # Without a key it means: fetch the list again.
                payload = frames.dump({"reason": "delete", "ts": millis(event.create_time)})
                self._send("sessions.changed", payload, audience=Audience.SESSIONS)
            case _:
                pass

    def _message(self, event: event_pb2.Event, row: Mapping[str, Any] | None) -> None:
        message = event.message
        if message.role == event_pb2.ROLE_USER:
            if event.run:
                self._run_of(event).seen_from_start = True
            self._changed(event, row, reason="send")
            self._session_message(event, row)
            return
        if not event.run:
            self._session_message(event, row)
            if message.role == event_pb2.ROLE_ASSISTANT:
                self._injected(event)
            return
        run = self._run_of(event)
        if message.role == event_pb2.ROLE_ASSISTANT:
            run.streamed.complete(text_of(message.parts))
            self._flush(run)
            run.last_message = message_of(event)
        self._session_message(event, row)
        run.streamed.begin_again()

    def _injected(self, event: event_pb2.Event) -> None:
        payload = {
            "runId": event.id if event.id.startswith("inject-") else f"inject-{event.id}",
            "sessionKey": key_of(event.session),
            "agentId": agent_of(event.session),
            "seq": 0,
            "state": "final",
            "message": message_of(event),
        }
        self._send("chat", frames.dump(payload), key=key_of(event.session))

    def _run_started(self, event: event_pb2.Event, row: Mapping[str, Any] | None) -> None:
        run = self._run_of(event)
        if event.run_started.attempt > 1:
            run.streamed.begin_again()
            run.streamed.committed = ""
        else:
            run.seen_from_start = True
        if not run.start_ms:
            run.start_ms = millis(event.create_time)
        self._agent(run, "lifecycle", {"phase": "start", "startedAt": run.start_ms}, event)
        self._changed(event, row, reason="agent.run.started")
        self._changed(event, row, phase="start")
        self._chat(run, {"state": "status", "phase": "starting_model"})

    def _run_retrying(self, event: event_pb2.Event) -> None:
        run = self._run_of(event)
        self._flush(run)
        run.streamed.begin_again()
        retrying = event.run_retrying
        data = {"phase": "retrying", "attempt": retrying.attempt, "error": retrying.error_message}
        if retrying.HasField("next_attempt_time"):
            data["nextAttemptAt"] = millis(retrying.next_attempt_time)
        self._agent(run, "run_status", data, event)

    def _decision_requested(self, event: event_pb2.Event) -> None:
        asked = event.decision_requested
        data = {"phase": "needs_decision", "question": asked.question, "choices": list(asked.choices)}
        self._agent(self._run_of(event), "run_status", data, event)

    def _run_finished(self, event: event_pb2.Event, row: Mapping[str, Any] | None) -> None:
        if event.run in self._finished:
            return
        run = self._run_of(event)
        self._flush(run)
        finished = event.run_finished
        succeeded = finished.outcome == session_pb2.RUN_OUTCOME_SUCCEEDED
        cancelled = finished.outcome == session_pb2.RUN_OUTCOME_CANCELLED
        start_ms = millis(finished.start_time) if finished.HasField("start_time") else run.start_ms
        lifecycle: dict[str, object] = {
            "phase": "end" if succeeded or cancelled else "error",
            "startedAt": start_ms or millis(event.create_time),
            "endedAt": millis(event.create_time),
            "aborted": cancelled,
            "stopReason": finished.stop_reason or ("rpc" if cancelled else "stop" if succeeded else "error"),
        }
        if not succeeded and not cancelled:
            lifecycle["error"] = error_text(finished)
        if finished.HasField("usage") and finished.usage.output_tokens:
            self._agent(run, "usage", {"outputTokens": finished.usage.output_tokens}, event)
        self._agent(run, "lifecycle", lifecycle, event)
        self._chat(run, terminal_fields(finished, run.last_message))
        self._changed(event, row, reason="agent.input.settled")
        self._changed(event, row, phase=str(lifecycle["phase"]))
        self._runs.pop(run.run, None)
        self._unsent.pop(run.run, None)
        self._finished[run.run] = None
        while len(self._finished) > _MAX_RUNS:
            self._finished.popitem(last=False)

    def _tool_called(self, event: event_pb2.Event) -> None:
        run = self._run_of(event)
        self._flush(run)
        called = event.tool_called
        row = message_of(event) or {}
        arguments = row["content"][0]["arguments"]
        data = {"phase": "start", "name": called.tool, "toolCallId": called.call_id, "args": arguments}
        self._agent(run, "tool", data, event, audience=Audience.TOOLS)
        self._session_message(event, None)

    def _tool_returned(self, event: event_pb2.Event) -> None:
        run = self._run_of(event)
        returned = event.tool_returned
        data = {
            "phase": "result",
            "name": returned.tool,
            "toolCallId": returned.call_id,
            "isError": returned.is_error,
            "result": {"content": content_of(returned.parts)},
        }
        self._agent(run, "tool", data, event, audience=Audience.TOOLS)
        self._session_message(event, None)

    # Deltas.

    def _delta(self, delta: event_pb2.Delta) -> None:
        if delta.run in self._finished:
            return
        run = self._runs.get(delta.run) or self._new_run(delta.run, delta.session)
        if delta.kind == event_pb2.DELTA_KIND_THINKING:
            self._live(run, "thinking", {"delta": delta.text})
            return
        if delta.kind == event_pb2.DELTA_KIND_PROGRESS:
            self._live(run, "run_status", {"phase": "progress", "text": delta.text})
            return
        if delta.step != run.streamed.step:
            self._flush(run)
            run.streamed.begin_again()
            run.streamed.step = delta.step
            run.streamed.committed = ""
        if run.streamed.add(delta):
            self._unsent[run.run] = run

    def _flush(self, run: _Run) -> None:
        self._unsent.pop(run.run, None)
        if run.streamed.has_unsent:
            run.seq += 1
            # While nobody listens the text stays unsent: who comes in the middle hears it from its beginning.
            if not self._heard:
                return
            self.sink(Outgoing(run.streamed.take(run.run, run.head(), self.now_ms()), key=run.key))

    # Sending.

    def _agent(
        self,
        run: _Run,
        stream: str,
        data: Mapping[str, object],
        event: event_pb2.Event,
        *,
        audience: Audience = Audience.ALL,
    ) -> None:
        run.seq += 1
        if not self._heard:
            return
        payload = {**run.head(), "stream": stream, "ts": millis(event.create_time), "data": data}
        if event.session_uid:
            payload["sessionId"] = event.session_uid
        self._send("agent", frames.dump(payload), audience=audience, key=run.key, run_id=run.run)

    def _live(self, run: _Run, stream: str, data: Mapping[str, object]) -> None:
        self._flush(run)
        run.seq += 1
        if not self._heard:
            return
        payload = {**run.head(), "stream": stream, "ts": self.now_ms(), "data": data}
        self._send("agent", frames.dump(payload), key=run.key, run_id=run.run)

    def _chat(self, run: _Run, fields: Mapping[str, object]) -> None:
        self._send("chat", frames.dump({**run.head(), **fields}), key=run.key, run_id=run.run)

    def _session_message(self, event: event_pb2.Event, row: Mapping[str, Any] | None) -> None:
        message = message_of(event) if self._heard else None
        if message is None:
            return
        payload = envelope_of(event, message)
        if row is not None:
            payload["session"] = row
        self._send(
            "session.message",
            frames.dump(payload),
            audience=Audience.MESSAGES,
            key=key_of(event.session),
            run_id=event.run,
        )

    def _changed(
        self,
        event: event_pb2.Event,
        row: Mapping[str, Any] | None,
        *,
        reason: str = "",
        phase: str = "",
        expires_ms: int = 0,
    ) -> None:
        if not self._heard:
            return
        payload: dict[str, object] = {
            "sessionKey": key_of(event.session),
            "agentId": agent_of(event.session),
            "sessionId": event.session_uid,
            "ts": millis(event.create_time),
        }
        if reason:
            payload["reason"] = reason
        if phase:
            payload["phase"] = phase
        if expires_ms:
            payload["expiresAt"] = expires_ms
        if event.run:
            payload["runId"] = event.run
        if row is not None:
            payload["session"] = row
        self._send(
            "sessions.changed",
            frames.dump(payload),
            audience=Audience.SESSIONS,
            key=key_of(event.session),
            run_id=event.run,
        )

    def _send(
        self, name: str, payload: bytes, *, audience: Audience = Audience.ALL, key: str = "", run_id: str = ""
    ) -> None:
        if self._heard:
            self.sink(Outgoing(Event(name, payload, run_id=run_id), audience, key, self._sequence))

    def _run_of(self, event: event_pb2.Event) -> _Run:
        return self._runs.get(event.run) or self._new_run(event.run, event.session)

    def _new_run(self, run_id: str, session: str) -> _Run:
        run = _Run(run_id, key_of(session), agent_of(session))
        self._runs[run_id] = run
        while len(self._runs) > _MAX_RUNS:
            forgotten, _ = self._runs.popitem(last=False)
            self._unsent.pop(forgotten, None)
        return run
