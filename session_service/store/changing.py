"""Writes to sessions as a whole: create, update, reset, archive, delete, purge. One event in the log for each."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from sqlalchemy import delete, func, insert, select, update

from session_service.domain import errors, lifecycle
from session_service.domain.label import label_key
from session_service.domain.session import Draft, Fields, Session, SessionState
from session_service.models import EVENT, LOG_HEAD, SESSION, SESSION_GROUP, SESSION_TAG, TRANSCRIPT
from session_service.store.appending import ancestors
from session_service.store.transaction import Transaction


class Expected(NamedTuple):
    """What the caller read; empty means no check."""

    uid: str = ""
    etag: str = ""


class Creation(NamedTuple):
    session: Session
    created: bool


NOTHING_EXPECTED = Expected()


def create_session(tx: Transaction, draft: Draft, actor: str, *, policy: str) -> Creation:
    """`policy` is "FAIL", "USE_EXISTING" or "REPLACE".

    Raises:
        SessionAlreadyExists, SessionDeleted, SessionPersistent, LabelInUse, LabelRequired: see the contract.
    """
    name = f"bots/{draft.bot}/sessions/{draft.session_id}"
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
    """`change` gives the new fields; `missing` is created when there is no such session."""
    session = tx.find_session(name)
    if session is None:
        if missing is None:
            raise errors.SessionNotFound(name)
        return _create(tx, missing, actor)
    lifecycle.check_expected(session, uid=expected.uid, etag=expected.etag)
    return _change_fields(tx, session, change(session.fields), actor)


def reset_session(tx: Transaction, name: str, expected: Expected, reason: str, actor: str) -> Session:
    """Raises SessionPersistent, SessionChanged, EtagMismatch, SessionNotFound, SessionDeleted, SessionArchived."""
    session = get_session(tx, name)
    lifecycle.check_expected(session, uid=expected.uid, etag=expected.etag)
    return _reset(tx, session, reason, actor)


def archive_session(tx: Transaction, name: str, expected: Expected, reason: str, actor: str) -> Session:
    session = get_session(tx, name)
    lifecycle.check_expected(session, uid=expected.uid)
    return _to_state(tx, session, lifecycle.archive(session, tx.now), lifecycle.Archived(reason), actor)


def unarchive_session(tx: Transaction, name: str, actor: str) -> Session:
    session = get_session(tx, name)
    return _to_state(tx, session, lifecycle.unarchive(session), lifecycle.Unarchived(), actor)


def delete_session(
    tx: Transaction, name: str, expected: Expected, actor: str, *, retention_us: int, allow_missing: bool
) -> tuple[Session | None, bool]:
    """The deleted session, and whether this call deleted it. `retention_us`: microseconds until it may be purged."""
    session = tx.find_session(name)
    if session is None:
        if allow_missing:
            return None, False
        raise errors.SessionNotFound(name)
    lifecycle.check_expected(session, uid=expected.uid, etag=expected.etag)
    purge_time = tx.now + retention_us
    after = lifecycle.delete(session, now=tx.now, purge_time=purge_time)
    return _to_state(tx, session, after, lifecycle.Deleted(purge_time), actor), after is not session


def undelete_session(tx: Transaction, name: str, actor: str) -> Session:
    """Raises LabelInUse when another session took the label meanwhile."""
    session = get_session(tx, name)
    after = lifecycle.undelete(session)
    if after is not session:
        _check_label(tx, after.head.bot, after.name, after.fields.label)
    return _to_state(tx, session, after, lifecycle.Undeleted(), actor)


def purge_session(tx: Transaction, name: str, expected: Expected) -> int:
    """Removes a deleted session and its log for good; returns the number of events removed."""
    session = get_session(tx, name)
    lifecycle.check_expected(session, uid=expected.uid)
    if session.head.state is not SessionState.DELETED:
        raise errors.SessionNotDeleted(name)
    pk = session.head.pk
    newest = tx.conn.execute(select(func.max(EVENT.c.position)).where(EVENT.c.session == pk)).scalar()
    removed = tx.conn.execute(delete(EVENT).where(EVENT.c.session == pk)).rowcount
    for table in (TRANSCRIPT, SESSION_TAG):
        tx.conn.execute(delete(table).where(table.c.session == pk))
    tx.conn.execute(delete(SESSION).where(SESSION.c.pk == pk))
    tx.forget(name)
    # A watcher whose token is older than this would silently miss what was removed, so it is told to list again.
    tx.conn.execute(update(LOG_HEAD).where(LOG_HEAD.c.purged < (newest or 0)).values(purged=newest or 0))
    return removed


def get_session(tx: Transaction, name: str) -> Session:
    session = tx.find_session(name)
    if session is None:
        raise errors.SessionNotFound(name)
    return session


def _create(tx: Transaction, draft: Draft, actor: str) -> Session:
    name = f"bots/{draft.bot}/sessions/{draft.session_id}"
    lifecycle.check_fields(name, draft.fields)
    _check_label(tx, draft.bot, name, draft.fields.label)
    lineage, depth = ancestors(tx, draft.provenance.parent)
    draft = replace(draft, provenance=replace(draft.provenance, lineage=lineage, spawn_depth=depth))
    session = lifecycle.create(
        draft, pk=tx.next_session(), transcript=tx.next_transcript(), uid=tx.new_uid(), now=tx.now
    )
    session = tx.record(session, lifecycle.Created(session), actor)
    tx.add_session(session)
    _write_tags(tx, session.head.pk, session.fields.tags)
    _know_group(tx, session.fields.group)
    return session


def _replace(tx: Transaction, session: Session, draft: Draft, actor: str) -> Session:
    lifecycle.guard_context(session)
    lifecycle.check_fields(session.name, draft.fields)
    _check_label(tx, session.head.bot, session.name, draft.fields.label)
    if session.head.state is SessionState.ARCHIVED:
        session = _to_state(tx, session, lifecycle.unarchive(session), lifecycle.Unarchived(), actor)
    session = _reset(tx, session, "replaced", actor)
    return _change_fields(tx, session, draft.fields, actor)


def _reset(tx: Transaction, session: Session, reason: str, actor: str) -> Session:
    lifecycle.guard_context(session)
    previous_uid = session.head.uid
    after = lifecycle.reset(session, uid=tx.new_uid(), transcript=tx.next_transcript(), now=tx.now)
    tx.add_transcript(after.head)
    after = tx.record(after, lifecycle.Reset(previous_uid, after.head.uid, reason), actor)
    tx.save(after)
    return after


def _change_fields(tx: Transaction, session: Session, fields: Fields, actor: str) -> Session:
    after, paths = lifecycle.update(session, fields, tx.now)
    if not paths:
        return session
    if "label" in paths:
        _check_label(tx, session.head.bot, session.name, fields.label)
    after = tx.record(after, lifecycle.Updated(paths), actor)
    tx.save(after)
    if "tags" in paths:
        tx.conn.execute(delete(SESSION_TAG).where(SESSION_TAG.c.session == session.head.pk))
        _write_tags(tx, session.head.pk, fields.tags)
    if "group" in paths:
        _know_group(tx, fields.group)
    return after


def _to_state(tx: Transaction, before: Session, after: Session, change: lifecycle.Change, actor: str) -> Session:
    if after is before:
        return before
    after = tx.record(after, change, actor)
    tx.save(after)
    return after


def _check_label(tx: Transaction, bot: str, name: str, label: str) -> None:
    if not label:
        return
    taken = select(SESSION.c.name).where(
        SESSION.c.bot == bot, SESSION.c.label_key == label_key(label), SESSION.c.name != name
    )
    holder = tx.conn.execute(taken).scalar()
    if holder is not None:
        raise errors.LabelInUse(label, holder)


def _write_tags(tx: Transaction, pk: int, tags: Sequence[str]) -> None:
    if tags:
        tx.conn.execute(insert(SESSION_TAG), [{"tag": tag, "session": pk} for tag in tags])


def _know_group(tx: Transaction, group: str) -> None:
    if not group or tx.conn.execute(select(SESSION_GROUP.c.name).where(SESSION_GROUP.c.name == group)).scalar():
        return
    last = tx.conn.execute(select(func.max(SESSION_GROUP.c.position))).scalar()
    tx.conn.execute(insert(SESSION_GROUP), {"name": group, "position": 0 if last is None else last + 1})
