"""Events of a session as a person reads them: one block for each, nothing for what only programs need."""

from mobot.session.v1 import event_pb2, part_pb2, session_pb2
from mobot_cli.printing import clean, clean_block, clock_time

_SPEAKERS = {
    event_pb2.ROLE_USER: "you",
    event_pb2.ROLE_ASSISTANT: "bot",
    event_pb2.ROLE_SYSTEM: "system",
}


def text_of(parts: "list[part_pb2.Part]") -> str:
    """The text of a message; data and files are named."""
    pieces = []
    for part in parts:
        match part.WhichOneof("content"):
            case "text":
                pieces.append(part.text)
            case "data":
                pieces.append(f"[data {part.data.media_type or 'application/json'}, {len(part.data.value)} bytes]")
            case "file":
                pieces.append(f"[file {part.file.file_name or part.file.uri or 'inline'}]")
            case _:
                pass
    return "".join(pieces)


def question(run: str, asked: str, choices: list[str]) -> str:
    """What a run asks a person, and how to answer it."""
    answers = "|".join(choices) if choices else "ANSWER"
    return clean(f"run {run} waits for a decision: {asked} Answer: mobot mail resolve {run} {answers}")


def lines(event: event_pb2.Event, *, verbose: bool = False) -> str | None:
    """What to print for an event, None for those that people need not see unless `verbose`."""
    head = f"[{event.sequence}] {clock_time(event.create_time)}"
    match event.WhichOneof("payload"):
        case "message":
            message = event.message
            speaker = _SPEAKERS.get(message.role, "?")
            if message.role == event_pb2.ROLE_USER and message.inter_session:
                speaker = f"mail from {clean(message.source)}"
            elif message.role == event_pb2.ROLE_ASSISTANT:
                speaker = event.session.split("/")[1]
            partial = " (cut off)" if message.partial else ""
            return f"{head} {speaker}{partial}: {clean_block(text_of(list(message.parts)))}"
        case "tool_called":
            return f"{head} calls {clean(event.tool_called.tool)} {clean(event.tool_called.arguments_json, limit=200)}"
        case "tool_returned":
            answer = clean(text_of(list(event.tool_returned.parts)), limit=200)
            verb = "fails" if event.tool_returned.is_error else "answers"
            return f"{head} {clean(event.tool_returned.tool)} {verb}: {answer}"
        case "run_finished":
            finished = event.run_finished
            outcome = session_pb2.RunOutcome.Name(finished.outcome).removeprefix("RUN_OUTCOME_")
            outcome = outcome.lower().replace("_", "-")
            if finished.outcome == session_pb2.RUN_OUTCOME_SUCCEEDED:
                return f"{head} run {clean(event.run)} succeeded" if verbose else None
            return f"{head} run {clean(event.run)} {outcome}: {clean(finished.error_message or finished.error_reason)}"
        case "run_retrying":
            cause = clean(event.run_retrying.error_message)
            return f"{head} attempt {event.run_retrying.attempt} ended ({cause}); trying again"
        case "decision_requested":
            asked = event.decision_requested
            return f"{head} {question(event.run, asked.question, list(asked.choices))}"
        case "session_reset":
            restored = event.session_reset.restored
            return f"{head} --- {'gone back to this transcript' if restored else 'reset'} ---"
        case "summary":
            return f"{head} summary: {clean_block(event.summary.text)}"
        case "expiry_warned":
            when = event.expiry_warned.expire_time.ToJsonString()
            return f"{head} the session has been idle and is archived at {when} unless somebody writes to it"
        case other:
            return f"{head} {(other or 'event').replace('_', ' ')}" if verbose else None
