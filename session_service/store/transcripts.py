"""Transcripts that were left: kept as they were, so that a session can go back to them."""

from typing import Any

import orjson
from sqlalchemy import Connection, func, select, update

from session_service.domain import errors
from session_service.domain.event import EventKind
from session_service.domain.lifecycle import Former
from session_service.domain.session import NO_USAGE, Head, Usage
from session_service.models import EVENT, TRANSCRIPT
from session_service.store.rows import usage_values
from session_service.store.transaction import Transaction


def leave_transcript(tx: Transaction, head: Head) -> None:
    """Writes down what the session says of its present transcript; it is about to get another one."""
    kept = (
        head.message_count,
        usage_values(head.usage),
        head.title,
        head.preview,
        head.summary_sequence,
        head.summary_through,
    )
    statement = update(TRANSCRIPT).where(TRANSCRIPT.c.pk == head.transcript)
    tx.conn.execute(statement.values(kept=orjson.dumps(kept).decode()))


def find_former(tx: Transaction, head: Head, uid: str) -> Former:
    """Raises TranscriptNotFound, also for the present transcript: there is nothing to go back to."""
    columns = (TRANSCRIPT.c.pk, TRANSCRIPT.c.uid, TRANSCRIPT.c.start_sequence, TRANSCRIPT.c.kept)
    found = select(*columns).where(TRANSCRIPT.c.uid == uid, TRANSCRIPT.c.session == head.pk)
    row = tx.conn.execute(found).one_or_none()
    if row is None or row.pk == head.transcript:
        raise errors.TranscriptNotFound(head.name, uid)
    if row.kept is None:
        return Former(row.pk, row.uid, row.start_sequence, _count_messages(tx, head, row.pk))
    return _to_former(row.pk, row.uid, row.start_sequence, orjson.loads(row.kept))


def check_transcript(conn: Connection, head: Head, uid: str) -> None:
    """Raises TranscriptNotFound when the session never had the transcript."""
    of_uid = select(TRANSCRIPT.c.pk).where(TRANSCRIPT.c.uid == uid, TRANSCRIPT.c.session == head.pk)
    if conn.execute(of_uid.limit(1)).scalar() is None:
        raise errors.TranscriptNotFound(head.name, uid)


def _to_former(pk: int, uid: str, start_sequence: int, kept: list[Any]) -> Former:
    message_count, usage, title, preview, summary_sequence, summary_through = kept
    known = Usage(*usage) if usage else NO_USAGE
    return Former(pk, uid, start_sequence, message_count, known, title, preview, summary_sequence, summary_through)


def _count_messages(tx: Transaction, head: Head, transcript: int) -> int:
    """For a transcript that was left before such things were written down."""
    messages = (EVENT.c.session == head.pk, EVENT.c.transcript == transcript, EVENT.c.kind == int(EventKind.MESSAGE))
    return int(tx.conn.execute(select(func.count()).select_from(EVENT).where(*messages)).scalar_one())
