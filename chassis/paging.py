"""Page tokens: opaque, URL-safe, bound to the query they came from, and granting nothing by themselves."""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence

from chassis.errors import PAGE_TOKEN_INVALID, FieldViolation, InvalidArgument, field_invalid

_VERSION = b"\x01"
_QUERY_BYTES = 8
_MAC_BYTES = 12
_HEADER_BYTES = len(_VERSION) + _QUERY_BYTES + _MAC_BYTES

QueryValue = str | int | bool
PositionValue = str | int


class PageTokens:
    """Encodes and decodes the tokens of a service's lists.

    A token is base64url(version, digest of the query, MAC, position as JSON). Services that share `secret` accept one
    another's tokens, so that any replica can serve the next page.
    """

    def __init__(self, secret: bytes) -> None:
        if not secret:
            raise ValueError("page tokens need a secret")
        self._key = hashlib.sha256(b"mobot page tokens\0" + secret).digest()

    def encode(self, query: Mapping[str, QueryValue], position: Sequence[PositionValue]) -> str:
        """The token for the page after `position`, for the list call whose other arguments are `query`."""
        payload = json.dumps(list(position), separators=(",", ":")).encode()
        head = _VERSION + _query_digest(query)
        return base64.urlsafe_b64encode(head + self._mac(head + payload) + payload).rstrip(b"=").decode()

    def decode(self, query: Mapping[str, QueryValue], token: str) -> tuple[PositionValue, ...]:
        """The position inside `token`.

        Raises:
            InvalidArgument: PAGE_TOKEN_INVALID; the token is damaged, made elsewhere, or belongs to another query.
        """
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise _refused("is not a page token of this service") from None
        head, mac, payload = (
            raw[: _HEADER_BYTES - _MAC_BYTES],
            raw[_HEADER_BYTES - _MAC_BYTES : _HEADER_BYTES],
            raw[_HEADER_BYTES:],
        )
        if raw[:1] != _VERSION or not hmac.compare_digest(mac, self._mac(head + payload)):
            raise _refused("is not a page token of this service")
        if head[1:] != _query_digest(query):
            raise _refused(
                "belongs to a list call with other arguments; repeat them unchanged or start at the first page"
            )
        return tuple(json.loads(payload))

    def _mac(self, content: bytes) -> bytes:
        return hmac.digest(self._key, content, "sha256")[:_MAC_BYTES]


def clamp_page_size(requested: int, *, default: int, maximum: int) -> int:
    """The page size to use: 0 means `default`, more than `maximum` means `maximum` (AIP-158).

    Raises:
        InvalidArgument: FIELD_INVALID when `requested` is negative.
    """
    if requested < 0:
        raise field_invalid("page_size", f"must not be negative (was {requested})", value=str(requested))
    return min(requested or default, maximum)


def _query_digest(query: Mapping[str, QueryValue]) -> bytes:
    # JSON keeps true, 1 and "1" apart, which str() would not.
    canonical = json.dumps(query, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(canonical).digest()[:_QUERY_BYTES]


def _refused(rule: str) -> InvalidArgument:
    return InvalidArgument(
        f"page_token {rule}",
        reason=PAGE_TOKEN_INVALID,
        metadata={"field": "page_token"},
        violations=(FieldViolation("page_token", rule),),
    )
