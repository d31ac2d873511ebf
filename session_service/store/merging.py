"""Merging: the turns of several sessions in one, each with where it came from."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from sqlalchemy import Connection, select

from chassis.errors import field_invalid
from session_service.domain import errors, transfer_errors
from session_service.domain.append import advance
from session_service.domain.copy import Copy, in_order
from session_service.domain.event import CONTEXT_KINDS, EventKind, NewEvent
from session_service.domain.session import Draft, Session, SessionState
from session_service.models import TRANSCRIPT
from session_service.store import changing
from session_service.store.forking import MAX_COPIES, CopyEvent
from session_service.store.log import EventFilter, get_session, select_events
from session_service.store.sql import find_events
from session_service.store.transaction import Transaction

EncodeMerged = Callable[[str, str, Sequence[str]], bytes]
"""The payload of the event that says so: (event id, actor, sources)."""

_MERGED = tuple(sorted(int(kind) for kind in CONTEXT_KINDS))


class Merged(NamedTuple):
    """The target, and how many copies were appended: none of what it had already."""

    session: Session
    event_count: int


def read_sources(conn: Connection, names: Sequence[str], copy: CopyEvent) -> list[Copy]:
    """The turns of the sessions' present transcripts in the order in which the target gets them, whatever the order of
    `names`. Summaries are left out: all that they sum up is there.

    Raises:
        SessionNotFound, SessionDeleted
        InvalidArgument: FIELD_INVALID; there are more than MAX_COPIES.
    """
    sources: list[list[Copy]] = []
    left = MAX_COPIES
    for name in sorted(set(names)):
        session = get_session(conn, name)
        if session.head.state is SessionState.DELETED:
            raise errors.SessionDeleted(name)
        which = EventFilter(kinds=_MERGED, uid=session.head.uid)
        copies = [copy(event) for event in select_events(conn, session, which, limit=left + 1)]
        left -= len(copies)
        if left < 0:
            raise field_invalid("sources", f"must not have more than {MAX_COPIES} events together")
        sources.append(copies)
    return in_order(sources)


def merge_into(
    tx: Transaction, target: Draft, copies: Sequence[Copy], sources: Sequence[str], actor: str, encode: EncodeMerged
) -> Merged:
    """Appends what the target does not have yet; it is created when missing. Merging again adds only what is new.

    Raises:
        SessionDeleted, SessionArchived, SessionBusy: the target takes no copies now.
    """
    name = f"bots/{target.bot}/sessions/{target.session_id}"
    session = tx.find_session(name) or changing.create_session(tx, target, actor, policy="FAIL").session
    head = session.head
    if head.state is SessionState.DELETED:
        raise errors.SessionDeleted(name)
    if head.state is SessionState.ARCHIVED:
        raise errors.SessionArchived(name)
    if head.active_runs:
        raise transfer_errors.SessionBusy(name, head.active_runs[0])
    fresh = _fresh(tx, session, copies)
    for copy in fresh:
        advance(head, copy.event, tx.now)
        tx.append(head, copy.event)
    if fresh:
        event_id = f"session/{head.last_sequence + 1}"
        payload = encode(event_id, actor, sorted(set(sources)))
        said = NewEvent(event_id, EventKind.SESSION_MERGED, "", payload)
        advance(head, said, tx.now)
        tx.append(head, said)
        # It was read for this; the one that appends have in mind is another.
        tx.forget(name)
        tx.move(head)
        tx.changed.append(session)
    return Merged(replace(session, head=head), len(fresh))


def _fresh(tx: Transaction, target: Session, copies: Sequence[Copy]) -> list[Copy]:
    """Without what is in the target already: as a copy from before, or because it was first said there."""
    pk = target.head.pk
    known = {row[1] for row in find_events(tx.conn, [(pk, copy.event.id) for copy in copies])} if copies else set()
    own = set(tx.conn.execute(select(TRANSCRIPT.c.uid).where(TRANSCRIPT.c.session == pk)).scalars())
    return [copy for copy in copies if copy.event.id not in known and copy.origin.uid not in own]
