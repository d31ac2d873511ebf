"""Whole sessions out of the store and into it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from sqlalchemy import Connection, insert, select

from chassis.errors import AppError
from session_service.domain import errors
from session_service.domain.session import Session
from session_service.domain.transfer import Arrival, Line, Parcel, Transcript
from session_service.models import EVENT, SESSION, SESSION_TAG, TRANSCRIPT
from session_service.store.log import get_session
from session_service.store.naming import check_label, know_group
from session_service.store.sql import among, find_events
from session_service.store.transaction import Transaction

_e = EVENT.c
_MAX_PAGE_BYTES = 4 * 1024 * 1024
_PAGE = 1_000


class Manifest(NamedTuple):
    """A session as of one moment: everything up to its head's sequence belongs to it."""

    session: Session
    transcripts: Sequence[Transcript]


class Presence(NamedTuple):
    """What the store has of a name: nothing, or a session and the uids of its transcripts."""

    name: str
    uids: frozenset[str]


def read_manifest(conn: Connection, name: str) -> Manifest:
    """Raises SessionNotFound."""
    session = get_session(conn, name)
    t = TRANSCRIPT.c
    rows = conn.execute(
        select(t.uid, t.start_sequence, t.create_time, t.kept).where(t.session == session.head.pk).order_by(t.pk)
    )
    return Manifest(session, [Transcript(*tuple(row)) for row in rows])


def read_lines(conn: Connection, session: int, after: int, through: int) -> list[Line]:
    """The lines after sequence `after` up to `through`, as many as fit a page."""
    columns = (_e.sequence, TRANSCRIPT.c.uid, _e.event_id, _e.kind, _e.run, _e.create_time, _e.payload)
    rows = conn.execute(
        select(*columns)
        .join_from(EVENT, TRANSCRIPT, TRANSCRIPT.c.pk == _e.transcript)
        .where(_e.session == session, _e.sequence > after, _e.sequence <= through)
        .order_by(_e.sequence)
        .limit(_PAGE)
    )
    lines: list[Line] = []
    left = _MAX_PAGE_BYTES
    for row in rows:
        sequence, uid, event_id, kind, run, time, payload = tuple(row)
        line = Line(sequence, uid, event_id, kind, run, time, bytes(payload))
        left -= len(line.payload)
        if lines and left < 0:
            break
        lines.append(line)
    return lines


def find_presences(conn: Connection, names: Sequence[str]) -> dict[str, frozenset[str]]:
    """The uids of all transcripts of those sessions that exist, by resource name."""
    found: dict[str, set[str]] = {}
    rows = conn.execute(
        select(SESSION.c.name, TRANSCRIPT.c.uid)
        .join_from(SESSION, TRANSCRIPT, TRANSCRIPT.c.session == SESSION.c.pk)
        .where(among(conn, SESSION.c.name, names))
    )
    for name, uid in rows:
        found.setdefault(name, set()).add(uid)
    return {name: frozenset(uids) for name, uids in found.items()}


def count_missing(conn: Connection, name: str, event_ids: Sequence[str]) -> int:
    """How many of the events the session does not have."""
    pk = conn.execute(select(SESSION.c.pk).where(SESSION.c.name == name)).scalar()
    if pk is None or not event_ids:
        return 0
    wanted = set(event_ids)
    return len(wanted) - len(find_events(conn, [(int(pk), event_id) for event_id in wanted]))


def find_uids(conn: Connection, uids: Sequence[str]) -> frozenset[str]:
    """Those of `uids` that some session of the store has."""
    return frozenset(conn.execute(select(TRANSCRIPT.c.uid).where(among(conn, TRANSCRIPT.c.uid, uids))).scalars())


def store_parcel(tx: Transaction, parcel: Parcel, *, strict: bool) -> Arrival:
    """Stores a session that does not exist. `strict`: refuse it rather than store it without its label.

    Raises:
        SessionAlreadyExists: it came into being meanwhile.
        LabelInUse, LabelConfusable: when strict.
    """
    session = parcel.session
    if tx.find_session(session.name) is not None:
        raise errors.SessionAlreadyExists(session.name)
    refused = ""
    try:
        check_label(tx, session.head.bot, session.name, session.fields.label)
    except AppError as refusal:
        if strict:
            raise
        refused = refusal.message
        session = replace(session, fields=replace(session.fields, label="", persistent=False))
    keys = {transcript.uid: tx.next_transcript() for transcript in parcel.transcripts}
    head = replace(session.head, pk=tx.next_session(), transcript=keys[session.head.uid])
    session = replace(session, head=head)
    tx.add_restored(session)
    tx.conn.execute(
        insert(TRANSCRIPT),
        [
            {
                "pk": keys[transcript.uid],
                "session": head.pk,
                "uid": transcript.uid,
                "start_sequence": transcript.start_sequence,
                "create_time": transcript.create_time,
                "kept": transcript.kept,
            }
            for transcript in parcel.transcripts
        ],
    )
    for line in parcel.lines:
        tx.restore(head, keys[line.uid], line)
    if session.fields.tags:
        tx.conn.execute(insert(SESSION_TAG), [{"tag": tag, "session": head.pk} for tag in session.fields.tags])
    know_group(tx, session.fields.group)
    tx.changed.append(session)
    return Arrival(len(parcel.lines), refused)
