"""Rows of lists as JSON, kept: lists show the same sessions again and again, and few of them have changed."""

from collections.abc import Iterable

import orjson

from gateway.shapes import session_row
from mobot.session.v1 import session_pb2


class Rows:
    """Some thousands of rows. A row is all that a session says, so a session that says the same has the same row."""

    def __init__(self, size: int = 4_096) -> None:
        self._size = size
        self._known: dict[bytes, orjson.Fragment] = {}

    def of(self, sessions: Iterable[session_pb2.Session]) -> list[orjson.Fragment]:
        known = self._known
        rows: list[orjson.Fragment] = []
        for session in sessions:
            said = session.SerializeToString()
            row = known.get(said)
            if row is None:
                if len(known) >= self._size:
                    known.clear()
                row = known[said] = orjson.Fragment(orjson.dumps(session_row(session)))
            rows.append(row)
        return rows
