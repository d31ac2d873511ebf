"""The end of a run as clients hear of it: its last message, how it ended, and why."""

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.transcript import usage_of
from mobot.session.v1 import event_pb2, session_pb2


def last_message(events: Iterable[event_pb2.Event]) -> event_pb2.Event | None:
    """The newest assistant message among a run's events, whole ones before partial ones."""
    found: event_pb2.Event | None = None
    for event in sorted(events, key=lambda event: event.sequence):
        if event.WhichOneof("payload") != "message" or event.message.role != event_pb2.ROLE_ASSISTANT:
            continue
        if found is None or not event.message.partial or found.message.partial:
            found = event
    return found


def terminal_fields(finished: event_pb2.RunFinished, message: Mapping[str, Any] | None) -> dict[str, object]:
    """What the one terminal `chat` event of a run says; `message` is the run's last one, as clients see messages."""
    fields: dict[str, object] = {}
    if message is not None:
        fields["message"] = {name: value for name, value in message.items() if name not in ("__openclaw", "partial")}
    if finished.outcome == session_pb2.RUN_OUTCOME_SUCCEEDED:
        fields |= {"state": "final", "stopReason": finished.stop_reason or "stop"}
        if finished.HasField("usage"):
            fields["usage"] = usage_of(finished.usage)
        return fields
    if finished.outcome == session_pb2.RUN_OUTCOME_CANCELLED:
        return fields | {"state": "aborted", "stopReason": "rpc"}
    expired = finished.outcome == session_pb2.RUN_OUTCOME_EXPIRED
    return fields | {
        "state": "error",
        "errorMessage": error_text(finished),
        "errorKind": "timeout" if expired else "unknown",
        "stopReason": "error",
    }


def error_text(finished: event_pb2.RunFinished) -> str:
    """Why a run did not succeed, for people."""
    if finished.error_message:
        return finished.error_message
    outcome = session_pb2.RunOutcome.Name(finished.outcome).removeprefix("RUN_OUTCOME_").lower().replace("_", " ")
    return f"the run ended: {finished.error_reason or outcome}"
