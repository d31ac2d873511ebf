"""Whole sessions from their messages, output-only fields included: for sessions that come from an archive."""

from google.protobuf.message import Message

from chassis.errors import field_invalid
from chassis.resource_names import SessionName
from mobot.session.v1 import session_pb2, session_service_pb2
from session_service.convert.checks import from_timestamp
from session_service.convert.sessions import from_proto_fields, from_proto_usage, to_proto_session
from session_service.domain.session import (
    NO_USAGE,
    ForkOrigin,
    Head,
    Provenance,
    RunOutcome,
    RunSummary,
    Session,
    SessionState,
    SessionStatus,
)

_VIEW = session_service_pb2.SessionView(derived_title=True, last_message_preview=True)
_STATES = {int(state): state for state in SessionState}
_STATUSES = {int(status): status for status in SessionStatus}
_OUTCOMES = {int(outcome): outcome for outcome in RunOutcome}


def to_proto_whole(session: Session) -> session_pb2.Session:
    """With its title and preview."""
    return to_proto_session(session, _VIEW)


def from_proto_whole(
    whole: session_pb2.Session,
    name: SessionName,
    *,
    summary: tuple[int, int],
    expiry_warned: int | None,
    archive_due: int | None,
) -> Session:
    """The session as it was, under `name`; its keys are 0. `summary`: the newest one, and what it covers up to.

    Raises:
        InvalidArgument: FIELD_INVALID; it could not have been a session.
    """
    state, status = _STATES.get(whole.state), _STATUSES.get(whole.status)
    if state is None or status is None or not whole.uid or not whole.etag.startswith("W"):
        raise field_invalid("session", "must have a state, a status, a uid and an etag")
    head = Head(
        0,
        name.bot,
        name.session,
        whole.uid,
        0,
        state,
        mark=whole.epoch,
        last_sequence=whole.last_sequence,
        start_sequence=whole.start_sequence,
        last_activity_time=from_timestamp("session.last_activity_time", whole.last_activity_time),
        status=status,
        active_runs=tuple(whole.active_runs),
        last_run=_run(whole.last_run) if whole.HasField("last_run") else None,
        message_count=whole.message_count,
        usage=from_proto_usage(whole.usage) if whole.usage.ByteSize() else NO_USAGE,
        title=whole.derived_title,
        preview=whole.last_message_preview,
        summary_sequence=summary[0],
        summary_through=summary[1],
    )
    fork = whole.fork_origin
    provenance = Provenance(
        created_by=whole.created_by,
        created_via=whole.created_via,
        user_created=whole.user_created,
        parent=whole.parent,
        lineage=tuple(whole.lineage),
        spawn_depth=whole.spawn_depth,
        fork_origin=ForkOrigin(fork.session, fork.session_uid, fork.sequence)
        if whole.HasField("fork_origin")
        else None,
        template=whole.template,
    )
    return Session(
        head=head,
        fields=from_proto_fields(whole),
        provenance=provenance,
        version=_version(whole.etag),
        create_time=from_timestamp("session.create_time", whole.create_time),
        update_time=from_timestamp("session.update_time", whole.update_time),
        previous_uid=whole.previous_uid,
        pin_time=_time(whole, "pin_time"),
        mark_unread_time=_time(whole, "mark_unread_time"),
        last_read_time=_time(whole, "last_read_time"),
        archive_time=_time(whole, "archive_time"),
        delete_time=_time(whole, "delete_time"),
        purge_time=_time(whole, "purge_time"),
        expiry_warned=expiry_warned,
        archive_due=archive_due,
    )


def _version(etag: str) -> int:
    number = etag.removeprefix("W")
    if not (number.isascii() and number.isdigit() and len(number) < 16):
        raise field_invalid("session.etag", "must be W and a number")
    return int(number)


def _run(run: session_pb2.RunSummary) -> RunSummary:
    return RunSummary(
        run.run,
        _OUTCOMES.get(run.outcome, RunOutcome.UNSPECIFIED),
        run.error_message,
        _time(run, "start_time"),
        _time(run, "end_time"),
    )


def _time(message: Message, field: str) -> int | None:
    return from_timestamp(field, getattr(message, field)) if message.HasField(field) else None
