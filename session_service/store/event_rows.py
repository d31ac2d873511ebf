"""Events as rows that need no session beside them: what is read of them, and what becomes of it."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from session_service.domain.event import EventKind, StoredEvent
from session_service.models import EVENT, SESSION, TRANSCRIPT

_e = EVENT.c
KINDS: Final[Mapping[int, EventKind]] = MappingProxyType({int(kind): kind for kind in EventKind})
EVENT_COLUMNS: Final = (
    _e.position,
    _e.session,
    SESSION.c.bot,
    SESSION.c.session_id,
    _e.sequence,
    TRANSCRIPT.c.uid,
    _e.kind,
    _e.run,
    _e.create_time,
    _e.payload,
)


def to_event(row: Sequence[Any]) -> StoredEvent:
    """From EVENT_COLUMNS."""
    position, session, bot, session_id, sequence, uid, kind, run, create_time, payload = row
    return StoredEvent(position, session, bot, session_id, sequence, uid, KINDS[kind], run, create_time, payload)
