"""What requests of all kinds have: an identity that makes them repeatable, and a place in a list."""

from collections.abc import Sequence

from google.protobuf.message import Message

from chassis.idempotency import fingerprint
from chassis.paging import PageTokens, clamp_page_size
from memory_service.convert import checks
from memory_service.store.ledger import Ticket

_DEFAULT_PAGE = 100
_MAX_PAGE = 1_000


def to_ticket(request: Message, request_id: str, principal: str) -> Ticket:
    checks.text("request_id", request_id, checks.MAX_REQUEST_ID)
    return Ticket(
        principal=principal,
        method=request.DESCRIPTOR.name.removesuffix("Request"),
        request_id=request_id,
        fingerprint=fingerprint(request) if request_id else "",
    )


def page_size(requested: int, *, default: int = _DEFAULT_PAGE, maximum: int = _MAX_PAGE) -> int:
    return clamp_page_size(requested, default=default, maximum=maximum)


class Pages:
    """The page tokens of this service."""

    def __init__(self, secret: bytes) -> None:
        self._tokens = PageTokens(secret)

    def place(self, request: Message, page_token: str) -> tuple[str | int, ...]:
        """The place after which the page begins; empty for the first one."""
        return self._tokens.decode(_query(request), page_token) if page_token else ()

    def next(self, request: Message, place: Sequence[str | int]) -> str:
        """The token of the page after `place`; empty when there is none."""
        return self._tokens.encode(_query(request), place) if place else ""


def _query(request: Message) -> dict[str, str | int | bool]:
    """All of a request but where it is, which is what a page token is bound to."""
    bare = type(request)()
    bare.CopyFrom(request)
    for name in ("page_token", "page_size"):
        bare.ClearField(name)
    return {"list": request.DESCRIPTOR.full_name, "query": bare.SerializeToString(deterministic=True).hex()}
