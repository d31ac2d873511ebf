"""Writes to sessions as a whole: create, update, reset, archive, delete. Each is told of in the log."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from sqlalchemy import delete, insert

from session_service.domain import errors, lifecycle
from session_service.domain.append import PREVIEW_LENGTH, advance
from session_service.domain.event import Message, NewEvent, Role
from session_service.domain.session import Draft, Fields, Session, SessionState
from session_service.domain.template import fill
from session_service.models import SESSION_TAG
from session_service.store.appending import ancestors
from session_service.store.naming import admit_name, admit_return, check_label, counts_when_active, know_group
from session_service.store.templates import find_template
from session_service.store.transaction import Transaction
from session_service.store.transcripts import find_former, leave_transcript


class Expected(NamedTuple):
    """What the caller read; empty means no check."""

    uid: str = ""
    etag: str = ""


class Creation(NamedTuple):
    session: Session
    created: bool


NOTHING_EXPECTED = Expected()


def create_session(
    tx: Transaction, draft: Draft, actor: str, *, policy: str, succeeds_parent: bool = False
) -> Creation:
    """`policy` is "FAIL", "USE_EXISTING" or "REPLACE". The draft's template fills what it leaves open.

    Raises:
        SessionAlreadyExists, SessionDeleted, SessionPersistent, SessionIsMain, LabelInUse, LabelConfusable,
        LabelRequired, TemplateNotFound, NamedSessionsDisabled, SessionCapReached: see the contract.
    """
    name = f"bots/{draft.bot}/sessions/{draft.session_id}"
    if succeeds_parent:
        _guard_parent(tx, draft.provenance.parent)
    existing = tx.find_session(name)
    if existing is None:
        return Creation(_create(tx, draft, actor), created=True)
    if existing.head.state is SessionState.DELETED:
        raise errors.SessionDeleted(name)
    if policy == "USE_EXISTING":
        return Creation(existing, created=False)
    if policy == "REPLACE":
        return Creation(_replace(tx, existing, draft, actor), created=False)
    raise errors.SessionAlreadyExists(name)


def update_session(
    tx: Transaction,
    name: str,
    change: Callable[[Fields], Fields],
    actor: str,
    *,
    expected: Expected = NOTHING_EXPECTED,
    missing: Draft | None = None,
) -> Session:
    """`change` gives the new fields; `missing` is created when there is no such session, unless one is expected."""
    session = tx.find_session(name)
    if session is None:
        if missing is None or expected != NOTHING_EXPECTED:
            raise errors.SessionNotFound(name)
        return _create(tx, missing, actor)
    lifecycle.check_expected(session, uid=expected.uid, etag=expected.etag)
    return _change_fields(tx, session, change(session.fields), actor)


def reset_session(
    tx: Transaction,
    name: str,
    expected: Expected,
    reason: str,
    actor: str,
    *,
    restore_uid: str = "",
    validate_only: bool = False,
) -> Session:
    """A new transcript, or the former one with this uid. `validate_only`: refuses all the same, and changes nothing.

    Raises:
        SessionPersistent, SessionIsMain, SessionChanged, EtagMismatch, SessionNotFound, SessionDeleted,
        SessionArchived, TranscriptNotFound: see the contract.
    """
    session = get_session(tx, name)
    lifecycle.check_expected(session, uid=expected.uid, etag=expected.etag)
    if validate_only:
        if restore_uid:
            find_former(tx, session.head, restore_uid)
        lifecycle.check_turn(session, tx.rules)
        return session
    if restore_uid:
        return _restore(tx, session, restore_uid, reason, actor)
    return _reset(tx, session, reason, actor)


def archive_session(tx: Transaction, name: str, expected: Expected, reason: str, actor: str) -> Session:
    session = get_session(tx, name)
    lifecycle.check_expected(session, uid=expected.uid)
    return _to_state(tx, session, lifecycle.archive(session, tx.now), lifecycle.Archived(reason), actor)


def unarchive_session(tx: Transaction, name: str, actor: str) -> Session:
    """Raises SessionCapReached when its creator has made too many others meanwhile."""
    session = get_session(tx, name)
    return _unarchive(tx, session, actor)


def delete_session(
    tx: Transaction, name: str, expected: Expected, actor: str, *, retention_us: int, allow_missing: bool
) -> tuple[Session | None, bool]:
    """The deleted session, and whether this call deleted it. `retention_us`: microseconds until it is purged.

    Raises:
        SessionIsMain, SessionChanged, EtagMismatch, SessionNotFound
        ConfirmationRequired: it is persistent and no uid is given.
    """
    session = tx.find_session(name)
    if session is None:
        if allow_missing:
            return None, False
        raise errors.SessionNotFound(name)
    lifecycle.check_expected(session, uid=expected.uid, etag=expected.etag)
    if session.head.state is SessionState.DELETED:
        return session, False
    lifecycle.check_confirmed(session, expected.uid)
    archived = lifecycle.archive(session, tx.now)
    archived = _to_state(tx, session, archived, lifecycle.Archived("deleted"), actor)
    purge_time = tx.now + retention_us
    after = lifecycle.delete(archived, now=tx.now, purge_time=purge_time)
    # An archive time of its own says that it was in the archive before, where an undelete puts it back.
    after = replace(after, archive_time=session.archive_time)
    return _to_state(tx, archived, after, lifecycle.Deleted(purge_time), actor), True


def undelete_session(tx: Transaction, name: str, actor: str) -> Session:
    """Raises LabelInUse when another session took the label meanwhile."""
    session = get_session(tx, name)
    after = lifecycle.undelete(session)
    if after is not session:
        check_label(tx, after.head.bot, after.name, after.fields.label)
        if after.head.state is SessionState.ACTIVE and counts_when_active(session):
            admit_return(tx, after.provenance.created_by)
    return _to_state(tx, session, after, lifecycle.Undeleted(), actor)


def get_session(tx: Transaction, name: str) -> Session:
    session = tx.find_session(name)
    if session is None:
        raise errors.SessionNotFound(name)
    return session


def _create(tx: Transaction, draft: Draft, actor: str) -> Session:
    name = f"bots/{draft.bot}/sessions/{draft.session_id}"
    draft, opening = _filled(tx, draft)
    lifecycle.check_fields(name, draft.fields)
    if draft.fields.label and draft.provenance.user_created:
        admit_name(tx, name, draft.provenance)
    check_label(tx, draft.bot, name, draft.fields.label)
    lineage, depth = ancestors(tx, draft.provenance.parent)
    draft = replace(draft, provenance=replace(draft.provenance, lineage=lineage, spawn_depth=depth))
    session = lifecycle.create(
        draft, pk=tx.next_session(), transcript=tx.next_transcript(), uid=tx.new_uid(), now=tx.now
    )
    session = tx.record(session, lifecycle.Created(session), actor)
    if opening:
        _open(tx, session, opening, actor)
    tx.add_session(session)
    _write_tags(tx, session.head.pk, session.fields.tags)
    know_group(tx, session.fields.group)
    return session


def _guard_parent(tx: Transaction, parent: str) -> None:
    """Who goes on in another session instead of `parent` leaves its context."""
    session = tx.find_session(parent) if parent else None
    if session is not None and session.head.state is not SessionState.DELETED:
        lifecycle.guard_context(session, tx.rules)


def _filled(tx: Transaction, draft: Draft) -> tuple[Draft, str]:
    """The draft with what its template and the operator's rules add, and the text it begins with."""
    opening = ""
    fields = draft.fields
    if draft.provenance.template:
        template = find_template(tx.conn, draft.provenance.template.removeprefix("templates/"))
        fields, opening = fill(fields, template.fields), template.opening
    if tx.rules.default_persistent and draft.provenance.user_created and fields.label:
        fields = replace(fields, persistent=True)
    return replace(draft, fields=fields), opening


def _open(tx: Transaction, session: Session, text: str, actor: str) -> None:
    head = session.head
    opened = lifecycle.Opened(text)
    event_id = f"session/{head.last_sequence + 1}"
    said = Message(Role.SYSTEM, " ".join(text.split())[:PREVIEW_LENGTH])
    event = NewEvent(event_id, opened.kind, "", tx.encode(opened, event_id, actor), said)
    advance(head, event, tx.now)
    tx.append(head, event)


def _replace(tx: Transaction, session: Session, draft: Draft, actor: str) -> Session:
    lifecycle.guard_context(session, tx.rules)
    draft, opening = _filled(tx, draft)
    lifecycle.check_fields(session.name, draft.fields)
    check_label(tx, session.head.bot, session.name, draft.fields.label)
    if draft.fields.label and not session.fields.label:
        admit_name(tx, session.name, session.provenance)
    if session.head.state is SessionState.ARCHIVED:
        session = _unarchive(tx, session, actor)
    session = _reset(tx, session, "replaced", actor, opening=opening)
    return _change_fields(tx, session, draft.fields, actor)


def _unarchive(tx: Transaction, session: Session, actor: str) -> Session:
    after = lifecycle.unarchive(session)
    if after is not session and counts_when_active(session):
        admit_return(tx, session.provenance.created_by)
    return _to_state(tx, session, after, lifecycle.Unarchived(), actor)


def _reset(tx: Transaction, session: Session, reason: str, actor: str, *, opening: str = "") -> Session:
    lifecycle.guard_context(session, tx.rules)
    after = lifecycle.reset(session, uid=tx.new_uid(), transcript=tx.next_transcript(), now=tx.now, rules=tx.rules)
    leave_transcript(tx, session.head)
    tx.add_transcript(after.head)
    after = tx.record(after, lifecycle.Reset(session.head.uid, after.head.uid, reason), actor)
    if opening:
        _open(tx, after, opening, actor)
    tx.save(after)
    return after


def _restore(tx: Transaction, session: Session, uid: str, reason: str, actor: str) -> Session:
    former = find_former(tx, session.head, uid)
    after = lifecycle.turn_to(session, former, tx.now, tx.rules)
    leave_transcript(tx, session.head)
    after = tx.record(after, lifecycle.Reset(session.head.uid, uid, reason, restored=True), actor)
    tx.save(after)
    return after


def _change_fields(tx: Transaction, session: Session, fields: Fields, actor: str) -> Session:
    after, paths = lifecycle.update(session, fields, tx.now)
    if not paths:
        return session
    if "label" in paths and fields.label:
        if not session.fields.label:
            admit_name(tx, session.name, session.provenance)
        check_label(tx, session.head.bot, session.name, fields.label)
    after = tx.record(after, lifecycle.Updated(paths), actor)
    tx.save(after)
    if "tags" in paths:
        tx.conn.execute(delete(SESSION_TAG).where(SESSION_TAG.c.session == session.head.pk))
        _write_tags(tx, session.head.pk, fields.tags)
    if "group" in paths:
        know_group(tx, fields.group)
    return after


def _to_state(tx: Transaction, before: Session, after: Session, change: lifecycle.Change, actor: str) -> Session:
    if after is before:
        return before
    after = tx.record(after, change, actor)
    tx.save(after)
    tx.count(before.head.bot, before.head.state, -1)
    tx.count(after.head.bot, after.head.state, 1)
    return after


def _write_tags(tx: Transaction, pk: int, tags: Sequence[str]) -> None:
    if tags:
        tx.conn.execute(insert(SESSION_TAG), [{"tag": tag, "session": pk} for tag in tags])
