"""From events in the log: their words, their text for excerpts, and what they count for."""

from mobot.session.v1 import event_pb2
from session_service.convert.sessions import from_proto_usage
from session_service.domain.derived import Derived
from session_service.domain.event import EventKind, StoredEvent
from session_service.domain.session import Usage
from session_service.domain.usage import Tally, day_of
from session_service.domain.words import words_of

_MICROS = 1_000_000
_TOOL_CALL = Usage(tool_call_count=1)
_RELEVANT = frozenset({EventKind.MESSAGE, EventKind.SUMMARY, EventKind.TOOL_CALLED, EventKind.RUN_FINISHED})


def derive(event: StoredEvent) -> Derived:
    """Copies made by a fork or a merge are found like any other message, but count for nothing."""
    if event.kind not in _RELEVANT:
        return Derived(event.position, event.session, event.bot, [], 0, 0, None)
    message = event_pb2.Event.FromString(event.payload)
    words = words_of(text_of(message)) if event.kind in (EventKind.MESSAGE, EventKind.SUMMARY) else []
    tally = None if message.HasField("origin") else _tally(event, message)
    role = message.message.role
    return Derived(event.position, event.session, event.bot, words, role, day_of(event.create_time), tally)


def text_of(event: event_pb2.Event) -> str:
    """The text of a message or a summary; its parts are paragraphs."""
    if event.WhichOneof("payload") == "summary":
        return event.summary.text
    return "\n\n".join(part.text for part in event.message.parts if part.WhichOneof("content") == "text")


def _tally(event: StoredEvent, message: event_pb2.Event) -> Tally | None:
    match event.kind:
        case EventKind.MESSAGE:
            # The end of a run counts what its messages consumed; a message without a run counts for itself.
            own = not event.run and message.message.HasField("usage")
            usage = _without_tools(from_proto_usage(message.message.usage)) if own else Usage()
            return Tally(message_count=1, usage=usage)
        case EventKind.TOOL_CALLED:
            return Tally(usage=_TOOL_CALL)
        case EventKind.RUN_FINISHED:
            end = message.run_finished
            started = (
                end.start_time.seconds * _MICROS + end.start_time.nanos // 1000 if end.HasField("start_time") else 0
            )
            run_time = max(0, event.create_time - started) if started else 0
            return Tally(run_count=1, run_time=run_time, usage=_without_tools(from_proto_usage(end.usage)))
        case _:
            return None


def _without_tools(usage: Usage) -> Usage:
    """Tool calls are counted where they stand in the log, not as a run reports them."""
    return Usage(
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.request_count,
        0,
        usage.cost_micros,
    )
