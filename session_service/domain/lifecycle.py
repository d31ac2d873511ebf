"""What may happen to a session as a whole. Each function takes a session and returns the changed one, or refuses.

`guard_context` is the one guard in front of every way to lose a context.
"""

from dataclasses import dataclass, fields, replace
from typing import ClassVar

from session_service.domain import errors
from session_service.domain.event import EventKind
from session_service.domain.session import (
    MAIN_SESSION_ID,
    NO_USAGE,
    Draft,
    Fields,
    Head,
    Session,
    SessionState,
    SessionStatus,
)


@dataclass(frozen=True, slots=True)
class Created:
    kind: ClassVar[EventKind] = EventKind.SESSION_CREATED
    session: Session


@dataclass(frozen=True, slots=True)
class Updated:
    kind: ClassVar[EventKind] = EventKind.SESSION_UPDATED
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reset:
    kind: ClassVar[EventKind] = EventKind.SESSION_RESET
    previous_uid: str
    uid: str
    reason: str


@dataclass(frozen=True, slots=True)
class Archived:
    kind: ClassVar[EventKind] = EventKind.SESSION_ARCHIVED
    reason: str


@dataclass(frozen=True, slots=True)
class Unarchived:
    kind: ClassVar[EventKind] = EventKind.SESSION_UNARCHIVED


@dataclass(frozen=True, slots=True)
class Deleted:
    kind: ClassVar[EventKind] = EventKind.SESSION_DELETED
    purge_time: int


@dataclass(frozen=True, slots=True)
class Undeleted:
    kind: ClassVar[EventKind] = EventKind.SESSION_UNDELETED


Change = Created | Updated | Reset | Archived | Unarchived | Deleted | Undeleted


def guard_context(session: Session) -> None:
    """Refuses whatever would end the context of a persistent session.

    Raises:
        SessionPersistent: always, for a persistent session.
    """
    if session.fields.persistent:
        raise errors.SessionPersistent(session.name, session.fields.label)


def check_expected(session: Session, *, uid: str = "", etag: str = "") -> None:
    """Compares what the caller read with what is there; empty means no check.

    Raises:
        SessionChanged, EtagMismatch: it is something else by now.
    """
    if uid and uid != session.head.uid:
        raise errors.SessionChanged(session.name, expected_uid=uid, uid=session.head.uid)
    if etag and etag != session.etag:
        raise errors.EtagMismatch(session.name, given=etag, etag=session.etag)


def check_fields(name: str, after: Fields) -> None:
    """Raises LabelRequired for a persistent session without a label."""
    if after.persistent and not after.label:
        raise errors.LabelRequired(name)


def create(draft: Draft, *, pk: int, transcript: int, uid: str, now: int) -> Session:
    """A new session whose log is empty; the event that says so comes first in it."""
    head = Head(pk, draft.bot, draft.session_id, uid, transcript, SessionState.ACTIVE, last_activity_time=now)
    check_fields(head.name, draft.fields)
    return Session(
        head=head,
        fields=draft.fields,
        provenance=draft.provenance,
        version=1,
        create_time=now,
        update_time=now,
        pin_time=now if draft.fields.pinned else None,
        mark_unread_time=now if draft.fields.unread else None,
    )


def update(session: Session, after: Fields, now: int) -> tuple[Session, tuple[str, ...]]:
    """The session with other fields, and which of them changed; none means that nothing happened.

    Raises:
        SessionDeleted: it is deleted.
        LabelRequired: it would be persistent without a label.
    """
    if session.head.state is SessionState.DELETED:
        raise errors.SessionDeleted(session.name)
    check_fields(session.name, after)
    before = session.fields
    paths = tuple(f.name for f in fields(Fields) if getattr(before, f.name) != getattr(after, f.name))
    if not paths:
        return session, ()
    changed = replace(session, fields=after, version=session.version + 1, update_time=now)
    if "pinned" in paths:
        changed = replace(changed, pin_time=now if after.pinned else None)
    if "unread" in paths:
        changed = (
            replace(changed, mark_unread_time=now)
            if after.unread
            else replace(changed, mark_unread_time=None, last_read_time=now)
        )
    return changed, paths


def reset(session: Session, *, uid: str, transcript: int, now: int) -> Session:
    """A new transcript; the old one stays in the log and sequences go on.

    Raises:
        SessionPersistent: the guard.
        SessionDeleted, SessionArchived: it is not in use.
    """
    if session.head.state is SessionState.DELETED:
        raise errors.SessionDeleted(session.name)
    guard_context(session)
    if session.head.state is SessionState.ARCHIVED:
        raise errors.SessionArchived(session.name)
    head = replace(
        session.head,
        uid=uid,
        transcript=transcript,
        start_sequence=session.head.last_sequence,
        last_activity_time=now,
        status=session.head.status if session.head.active_runs else SessionStatus.IDLE,
        message_count=0,
        usage=NO_USAGE,
        title="",
        preview="",
        summary_sequence=0,
        summary_through=0,
    )
    return replace(session, head=head, previous_uid=session.head.uid, version=session.version + 1)


def archive(session: Session, now: int) -> Session:
    """Put away. The same session when it is archived already.

    Raises:
        SessionIsMain: it is the bot's main session.
        SessionDeleted: it is deleted.
    """
    _refuse_main(session)
    if session.head.state is SessionState.DELETED:
        raise errors.SessionDeleted(session.name)
    if session.head.state is SessionState.ARCHIVED:
        return session
    return _in_state(session, SessionState.ARCHIVED, archive_time=now)


def unarchive(session: Session) -> Session:
    """Taken back. The same session when it is not archived. Raises SessionDeleted."""
    if session.head.state is SessionState.DELETED:
        raise errors.SessionDeleted(session.name)
    if session.head.state is SessionState.ACTIVE:
        return session
    return _in_state(session, SessionState.ACTIVE)


def delete(session: Session, *, now: int, purge_time: int) -> Session:
    """Deleted softly. The same session when it is deleted already. Raises SessionIsMain."""
    _refuse_main(session)
    if session.head.state is SessionState.DELETED:
        return session
    return replace(
        _in_state(session, SessionState.DELETED, archive_time=session.archive_time),
        delete_time=now,
        purge_time=purge_time,
    )


def undelete(session: Session) -> Session:
    """Back where it was when it was deleted. The same session when it is not deleted."""
    if session.head.state is not SessionState.DELETED:
        return session
    state = SessionState.ARCHIVED if session.archive_time is not None else SessionState.ACTIVE
    restored = _in_state(session, state, archive_time=session.archive_time)
    return replace(restored, delete_time=None, purge_time=None)


def _in_state(session: Session, state: SessionState, *, archive_time: int | None = None) -> Session:
    return replace(
        session,
        head=replace(session.head, state=state),
        version=session.version + 1,
        archive_time=archive_time,
    )


def _refuse_main(session: Session) -> None:
    if session.head.session_id == MAIN_SESSION_ID:
        raise errors.SessionIsMain(session.name)
