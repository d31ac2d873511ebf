"""Watch tokens: a place in the log of one store, bound to the watch it came from."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable

from session_service.domain.errors import WatchTokenInvalid

_VERSION = 1
_POSITION_BYTES = 8
_WATCH_BYTES = 6
_MAC_BYTES = 8
_BODY_BYTES = 1 + _POSITION_BYTES + _WATCH_BYTES

ANY_WATCH = bytes(_WATCH_BYTES)
"""In the token of a list, with which any watch may begin."""


def watch_digest(*parts: Iterable[str | int]) -> bytes:
    """What a watch asks for, in few bytes; the order within a part does not matter."""
    content = "\0\0".join("\0".join(sorted(map(str, part))) for part in parts)
    return hashlib.sha256(content.encode()).digest()[:_WATCH_BYTES]


class WatchTokens:
    """Encodes and decodes the tokens of one store; they work on every replica and after every restart."""

    def __init__(self, secret: bytes) -> None:
        self._key = hashlib.sha256(b"mobot watch tokens\0" + secret).digest()

    def encode(self, position: int, watch: bytes = ANY_WATCH) -> str:
        body = bytes((_VERSION,)) + position.to_bytes(_POSITION_BYTES, "big") + watch
        return base64.urlsafe_b64encode(body + self._mac(body)).rstrip(b"=").decode()

    def decode(self, token: str, watch: bytes) -> int:
        """The position in `token`.

        Raises:
            WatchTokenInvalid: it is damaged, or of another store or another watch.
        """
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise WatchTokenInvalid("is not a watch token of this store") from None
        body, mac = raw[:_BODY_BYTES], raw[_BODY_BYTES:]
        if len(body) != _BODY_BYTES or body[0] != _VERSION or not hmac.compare_digest(mac, self._mac(body)):
            raise WatchTokenInvalid("is not a watch token of this store")
        if body[-_WATCH_BYTES:] not in (ANY_WATCH, watch):
            raise WatchTokenInvalid("belongs to a watch of other sessions, bots or kinds")
        return int.from_bytes(body[1 : 1 + _POSITION_BYTES], "big")

    def _mac(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, "sha256")[:_MAC_BYTES]
