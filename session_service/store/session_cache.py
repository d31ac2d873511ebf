"""Sessions that were read lately: most lists show the same ones again, unchanged."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, Connection

from session_service.domain.session import Session
from session_service.models import SESSION
from session_service.store.rows import SESSIONS_BY_KEY, to_session
from session_service.store.sql import Among

Stamp = tuple[Any, ...]
"""The values of STAMP_COLUMNS, the key first: while they are the same, so is all that readers see of a session."""

STAMP_COLUMNS: Sequence[Column[Any]] = (
    SESSION.c.pk,
    SESSION.c.version,
    SESSION.c.last_sequence,
    SESSION.c.mark,
    SESSION.c.sort_rank,
    SESSION.c.update_time,
    # Groups are renamed, and warnings taken back, without a change of the session itself.
    SESSION.c.group_name,
    SESSION.c.expiry_warned,
)

STAMPS_BY_NAME = Among(STAMP_COLUMNS, SESSION.c.name)


class SessionCache:
    """Holds some thousands of sessions. Used by several threads at once, each of which only looks up and sets.

    A session is handed out as the same object as long as it is unchanged, so that others can keep what they made of it.
    """

    def __init__(self, size: int = 2_048) -> None:
        self._size = size
        self._known: dict[int, tuple[Stamp, Session]] = {}

    def find(self, conn: Connection, name: str) -> Session | None:
        """The session with this resource name."""
        stamps = STAMPS_BY_NAME.run(conn, [name])
        return self.read(conn, [tuple(stamps[0])])[0] if stamps else None

    def read(self, conn: Connection, stamps: Sequence[Stamp]) -> list[Session]:
        """The sessions, as the snapshot of `conn` has them, from which the stamps are."""
        known = self._known
        found: dict[int, Session] = {}
        missing: list[Stamp] = []
        for stamp in stamps:
            kept = known.get(stamp[0])
            if kept is not None and kept[0] == stamp:
                found[stamp[0]] = kept[1]
            else:
                missing.append(stamp)
        if missing:
            read = {row[0]: to_session(row) for row in SESSIONS_BY_KEY.run(conn, [stamp[0] for stamp in missing])}
            found.update(read)
            if len(known) + len(missing) > self._size:
                known.clear()
            if len(missing) <= self._size:
                known.update((stamp[0], (stamp, read[stamp[0]])) for stamp in missing)
        return [found[stamp[0]] for stamp in stamps]
