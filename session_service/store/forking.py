"""Forking: a new session that begins with a copy of another one's transcript, up to an event."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

from sqlalchemy import Connection, select

from chassis.errors import field_invalid
from session_service.domain import errors
from session_service.domain.append import advance
from session_service.domain.copy import Copy
from session_service.domain.event import CONTEXT_KINDS, EventKind, StoredEvent, Summary
from session_service.domain.session import Draft, ForkOrigin, Head
from session_service.models import EVENT, TRANSCRIPT
from session_service.store import changing
from session_service.store.changing import Creation
from session_service.store.log import EventFilter, get_session, select_events
from session_service.store.sql import find_events
from session_service.store.transaction import Transaction

CopyEvent = Callable[[StoredEvent], Copy]


MAX_COPIES = 100_000


class Amend(Protocol):
    """What completes a payload: another id, or another sequence up to which a summary goes."""

    def __call__(self, *, event_id: str = "", through: int = 0) -> bytes: ...


_COPIED = tuple(sorted(int(kind) for kind in CONTEXT_KINDS | {EventKind.SUMMARY}))


class Prefix(NamedTuple):
    """A transcript up to an event, ready to be appended elsewhere."""

    origin: ForkOrigin
    copies: Sequence[Copy]


def read_prefix(conn: Connection, name: str, *, uid: str, sequence: int, copy: CopyEvent) -> Prefix:
    """What a fork of session `name` begins with: messages, tool calls and summaries of the transcript that `sequence`
    lies in (0: of the present one, or the one with `uid`, to its end). Runs stay where they ran.

    Raises:
        SessionNotFound, SessionDeleted
        EventNotFound: no such event, or not in the transcript `uid`.
        InvalidArgument: FIELD_INVALID; there is more than MAX_COPIES to copy.
    """
    session = get_session(conn, name)
    if session.purge_time is not None:
        raise errors.SessionDeleted(name)
    pk = session.head.pk
    present = select(TRANSCRIPT.c.uid).where(TRANSCRIPT.c.session == pk)
    if sequence:
        joined = present.join_from(TRANSCRIPT, EVENT, EVENT.c.transcript == TRANSCRIPT.c.pk)
        holder = conn.execute(joined.where(EVENT.c.session == pk, EVENT.c.sequence == sequence)).scalar()
        if holder is None or uid not in ("", holder):
            raise errors.EventNotFound(name, sequence=str(sequence))
        uid = holder
    elif uid and conn.execute(present.where(TRANSCRIPT.c.uid == uid)).scalar() is None:
        raise errors.TranscriptNotFound(name, uid)
    else:
        uid = uid or session.head.uid
    which = EventFilter(kinds=_COPIED, uid=uid, before_sequence=sequence + 1 if sequence else 0)
    copies: list[Copy] = []
    for event in select_events(conn, session, which, limit=MAX_COPIES + 1):
        copies.append(copy(event))
        if len(copies) > MAX_COPIES:
            raise field_invalid("source", f"must not have more than {MAX_COPIES} events to copy")
    last = sequence or (copies[-1].at if copies else session.head.start_sequence)
    return Prefix(ForkOrigin(name, uid, last), copies)


def create_fork(
    tx: Transaction,
    draft: Draft,
    prefix: Prefix,
    actor: str,
    *,
    policy: str,
    amend: Amend,
    succeeds_parent: bool = False,
) -> Creation:
    """As `changing.create_session`; an existing session that is used as it is gets no copies."""
    draft = replace(draft, provenance=replace(draft.provenance, fork_origin=prefix.origin))
    creation = changing.create_session(tx, draft, actor, policy=policy, succeeds_parent=succeeds_parent)
    if creation.created or policy == "REPLACE":
        append_copies(tx, creation.session.head, prefix.copies, amend)
    return creation


def append_copies(tx: Transaction, head: Head, copies: Sequence[Copy], amend: Amend) -> None:
    """Appends copies behind what `head` has; summaries cover the copies of what they covered."""
    placed: list[tuple[int, int]] = []
    # A session that is replaced by what it was made from before has these in its former transcript.
    taken = {row[1] for row in find_events(tx.conn, [(head.pk, copy.event.id) for copy in copies])} if copies else set()
    for copy in copies:
        event = copy.event
        if event.id in taken:
            event_id = f"{event.id}/{head.uid}"
            event = event._replace(id=event_id, payload=event.payload + amend(event_id=event_id))
        if copy.covers is not None:
            covered = next((new for old, new in reversed(placed) if old <= copy.covers), head.start_sequence)
            event = event._replace(payload=event.payload + amend(through=covered), detail=Summary(covered))
        advance(head, event, tx.now)
        tx.append(head, event)
        placed.append((copy.at, head.last_sequence))
    if copies:
        tx.move(head)
