"""Sessions as they lie in an answer, kept as bytes: making a message of fifty fields takes longer than reading it."""

from collections.abc import Iterable

from mobot.session.v1 import session_service_pb2
from session_service.convert.sessions import to_proto_session
from session_service.domain.session import Session

_FIELD_ONE = b"\x0a"
"""How a message begins that is field 1 of another: of GetSessionResponse, of ListSessionsResponse."""


class SessionLines:
    """Keeps what was made of some thousands of sessions; the store hands out a session as the same object until it
    changes."""

    def __init__(self, size: int = 4_096) -> None:
        self._size = size
        self._known: dict[tuple[int, bool, bool], tuple[Session, bytes]] = {}

    def join(self, sessions: Iterable[Session], view: session_service_pb2.SessionView | None = None) -> bytes:
        """The sessions as field 1 of a message, one after another."""
        title = view is not None and view.derived_title
        preview = view is not None and view.last_message_preview
        known = self._known
        lines: list[bytes] = []
        for session in sessions:
            key = (session.head.pk, title, preview)
            kept = known.get(key)
            if kept is None or kept[0] is not session:
                if len(known) >= self._size:
                    known.clear()
                body = to_proto_session(session, view).SerializeToString()
                kept = known[key] = (session, _FIELD_ONE + _varint(len(body)) + body)
            lines.append(kept[1])
        return b"".join(lines)


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
