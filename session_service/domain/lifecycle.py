"""What may happen to a session as a whole. Each function takes a session and returns the changed one, or refuses.

`guard_context` is the one guard in front of every way to lose a context.
"""

from dataclasses import dataclass, fields, replace
from typing import ClassVar, NamedTuple

from session_service.domain import errors
from session_service.domain.event import EventKind
from session_service.domain.rules import DEFAULT_RULES, Rules
from session_service.domain.session import (
    MAIN_SESSION_ID,
    NO_USAGE,
    Draft,
    Fields,
    Head,
    Session,
    SessionState,
    SessionStatus,
    Usage,
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
    restored: bool = False


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


@dataclass(frozen=True, slots=True)
class ExpiryWarned:
    kind: ClassVar[EventKind] = EventKind.EXPIRY_WARNED
    expire_time: int


@dataclass(frozen=True, slots=True)
class Opened:
    """The first message of a session made from a template."""

    kind: ClassVar[EventKind] = EventKind.MESSAGE
    text: str


Change = Created | Updated | Reset | Archived | Unarchived | Deleted | Undeleted | ExpiryWarned | Opened


class Former(NamedTuple):
    """A transcript that was left, and what the session said of it then."""

    transcript: int
    uid: str
    start_sequence: int
    message_count: int
    usage: Usage = NO_USAGE
    title: str = ""
    preview: str = ""
    summary_sequence: int = 0
    summary_through: int = 0


def guard_context(session: Session, rules: Rules = DEFAULT_RULES) -> None:
    """Refuses whatever would end the context of a protected session: a reset by whatever name or policy, replacing it,
    going back to a former transcript.

    Raises:
        SessionPersistent: it is persistent.
        SessionIsMain: it is a main session, and the operator protects these.
    """
    if session.fields.persistent:
        raise errors.SessionPersistent(session.name, session.fields.label)
    if rules.protect_main_session and session.head.session_id == MAIN_SESSION_ID:
        raise errors.SessionIsMain(session.name, "reset")


def check_confirmed(session: Session, uid: str) -> None:
    """Raises ConfirmationRequired for the deletion of a persistent session whose uid is not given, and SessionIsMain
    for a session that no confirmation would delete."""
    _refuse_main(session, "deleted")
    if session.fields.persistent and not uid:
        raise errors.ConfirmationRequired(session.name)


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


def reset(session: Session, *, uid: str, transcript: int, now: int, rules: Rules = DEFAULT_RULES) -> Session:
    """A new transcript; the old one stays in the log and sequences go on. Raises as `check_turn`."""
    return turn_to(session, Former(transcript, uid, session.head.last_sequence, 0), now, rules)


def check_turn(session: Session, rules: Rules = DEFAULT_RULES) -> None:
    """Whether the session may go on with another transcript.

    Raises:
        SessionPersistent, SessionIsMain: the guard.
        SessionDeleted, SessionArchived: it is not in use.
    """
    if session.head.state is SessionState.DELETED:
        raise errors.SessionDeleted(session.name)
    guard_context(session, rules)
    if session.head.state is SessionState.ARCHIVED:
        raise errors.SessionArchived(session.name)


def turn_to(session: Session, former: Former, now: int, rules: Rules = DEFAULT_RULES) -> Session:
    """The session goes on with another transcript of its own, and the present one stays. Raises as `check_turn`."""
    check_turn(session, rules)
    head = replace(
        session.head,
        **former._asdict(),
        last_activity_time=now,
        status=session.head.status if session.head.active_runs else SessionStatus.IDLE,
    )
    return replace(session, head=head, previous_uid=session.head.uid, version=session.version + 1)


def archive(session: Session, now: int) -> Session:
    """Put away. The same session when it is archived already.

    Raises:
        SessionIsMain: it is the bot's main session.
        SessionDeleted: it is deleted.
    """
    _refuse_main(session, "archived")
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
    _refuse_main(session, "deleted")
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
        expiry_warned=None,
        archive_due=None,
    )


def _refuse_main(session: Session, what: str) -> None:
    if session.head.session_id == MAIN_SESSION_ID:
        raise errors.SessionIsMain(session.name, what)
