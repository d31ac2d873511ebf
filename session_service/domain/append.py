"""What an append may do to a session, and what it does: fencing, duplicates, and the row's derived facts."""

from collections.abc import Mapping

from session_service.domain import errors
from session_service.domain.event import (
    Append,
    EventKind,
    Known,
    Message,
    NewEvent,
    Role,
    RunEnd,
    Summary,
)
from session_service.domain.session import (
    Head,
    RunOutcome,
    RunSummary,
    SessionState,
    SessionStatus,
)

PREVIEW_LENGTH = 240
TITLE_LENGTH = 80

_STATUS_OF_OUTCOME: Mapping[RunOutcome, SessionStatus] = {
    RunOutcome.SUCCEEDED: SessionStatus.SUCCEEDED,
    RunOutcome.CANCELLED: SessionStatus.CANCELLED,
}


def admit(head: Head, append: Append, *, fresh: bool) -> None:
    """Lets an append through or says why not. `fresh`: whether any of its events is not in the log yet.

    Raises:
        SessionDeleted, SessionArchived: the session takes no events, except the ends of runs that were active.
        Fenced: a newer lease writes.
        SessionChanged: the transcript is not the one the caller means.
    """
    if fresh and head.state is not SessionState.ACTIVE and not _only_ends_active_runs(head, append):
        if head.state is SessionState.DELETED:
            raise errors.SessionDeleted(head.name)
        raise errors.SessionArchived(head.name)
    if 0 < append.epoch < head.mark:
        raise errors.Fenced(head.name, epoch=append.epoch, mark=head.mark)
    if append.expected_uid and append.expected_uid != head.uid:
        raise errors.SessionChanged(head.name, expected_uid=append.expected_uid, uid=head.uid)


def same_event(known: Known, event: NewEvent) -> bool:
    """Whether `event` is the one already in the log. Kind and run decide, not the content: an attempt that is made
    again may well word its step otherwise, and then the first one stands."""
    return known.kind == event.kind and known.run == event.run


def advance(head: Head, event: NewEvent, now: int) -> None:
    """Moves `head` over an event that is appended: its sequence and everything derived from it."""
    head.last_sequence += 1
    head.last_activity_time = now
    detail = event.detail
    kind = event.kind
    if kind is EventKind.MESSAGE:
        head.message_count += 1
        if isinstance(detail, Message) and detail.text:
            head.preview = detail.text
            if not head.title and detail.role is Role.USER:
                head.title = shorten(detail.text, TITLE_LENGTH)
    elif kind is EventKind.RUN_STARTED:
        if event.run not in head.active_runs:
            head.active_runs = (*head.active_runs, event.run)
        if head.last_run is None or head.last_run.run != event.run:
            head.last_run = RunSummary(event.run, start_time=now)
        head.status = SessionStatus.RUNNING
    elif kind is EventKind.RUN_FINISHED:
        _finish_run(head, event, now)
    elif kind is EventKind.DECISION_REQUESTED:
        # Nobody works on it until it is answered, and then it starts again.
        head.active_runs = tuple(run for run in head.active_runs if run != event.run)
        head.status = SessionStatus.NEEDS_DECISION
    elif kind is EventKind.SUMMARY and isinstance(detail, Summary):
        head.summary_sequence = head.last_sequence
        # One that claims to cover what is not written yet would hide it.
        head.summary_through = min(detail.through_sequence, head.last_sequence - 1)


def shorten(text: str, length: int) -> str:
    """At most `length` characters of one line of text, cut at a word where there is one."""
    line = text.strip().split("\n", 1)[0].strip()
    if len(line) <= length:
        return line
    cut = line[: length - 1]
    words, space, _ = cut.rpartition(" ")
    return (words if space and len(words) > length // 2 else cut).rstrip() + "…"


def _finish_run(head: Head, event: NewEvent, now: int) -> None:
    head.active_runs = tuple(run for run in head.active_runs if run != event.run)
    end = event.detail if isinstance(event.detail, RunEnd) else RunEnd(RunOutcome.UNSPECIFIED, "", None, None)
    if end.usage is not None:
        head.usage = head.usage.plus(end.usage)
    last = head.last_run
    if last is None or (last.run != event.run and last.end_time is not None) or last.run == event.run:
        known = last if last is not None and last.run == event.run else RunSummary(event.run)
        start_time = end.start_time if end.start_time is not None else known.start_time
        head.last_run = RunSummary(event.run, end.outcome, end.error_message, start_time, now)
    if head.active_runs:
        head.status = SessionStatus.RUNNING
    else:
        head.status = _STATUS_OF_OUTCOME.get(end.outcome, SessionStatus.FAILED)


def _only_ends_active_runs(head: Head, append: Append) -> bool:
    # A session may be put away while a run is at work. Its end is still due: every run ends exactly once.
    active = head.active_runs
    return bool(active) and all(event.kind is EventKind.RUN_FINISHED and event.run in active for event in append.events)
