"""Page tokens and resume tokens: opaque places in a list and in the log."""

from collections.abc import Mapping, Sequence

from google.protobuf.message import Message

from chassis.errors import InvalidArgument
from chassis.paging import PageTokens
from registry_service.domain.errors import WatchTokenInvalid


class Tokens:
    """The tokens of one log. Replicas that share the log and the secret accept one another's."""

    def __init__(self, secret: bytes, log_id: str) -> None:
        self._signed = PageTokens(secret)
        self._watch: Mapping[str, str | int | bool] = {"watch": "registry", "log": log_id}

    def resume(self, position: int) -> str:
        """The token from which a watch goes on after log position `position`."""
        return self._signed.encode(self._watch, [position])

    def position(self, resume_token: str) -> int:
        """The log position in a resume token; raises WATCH_TOKEN_INVALID for one that was made elsewhere."""
        try:
            (position,) = self._signed.decode(self._watch, resume_token)
        except InvalidArgument:
            raise WatchTokenInvalid("was not made by this installation") from None
        return int(position)

    def next_page(self, request: Message, as_of: int, place: Sequence[str | int]) -> str:
        """The token of the page after `place`; empty when there is none."""
        return self._signed.encode(_query(request), [as_of, *place]) if place else ""

    def page(self, request: Message, page_token: str) -> tuple[int | None, tuple[str | int, ...]]:
        """The log position of the first page (None when this is it) and the place to go on after."""
        if not page_token:
            return None, ()
        as_of, *place = self._signed.decode(_query(request), page_token)
        return int(as_of), tuple(place)


def _query(request: Message) -> dict[str, str | int | bool]:
    """All of a list request but where it is, which is what a page token is bound to."""
    bare = type(request)()
    bare.CopyFrom(request)
    for name in ("page_token", "page_size"):
        bare.ClearField(name)
    return {"list": request.DESCRIPTOR.full_name, "query": bare.SerializeToString(deterministic=True).hex()}
