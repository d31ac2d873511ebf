"""What all calls share: the store, the feed, who may see what, and answering a repeated request as before."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf.message import Message

from chassis import idempotency
from chassis.clock import IdFactory
from chassis.delegation import Delegation
from chassis.identity import bot_of, caller
from chassis.open_streams import OpenStreams
from chassis.paging import PageTokens
from chassis.resource_names import SessionName, parse_session
from mobot.session.v1 import session_service_pb2_grpc
from session_service.convert.session_lines import SessionLines
from session_service.convert.tokens import WatchTokens
from session_service.domain.errors import SessionNotFound
from session_service.feed.hub import Hub
from session_service.feed.watch import Patience
from session_service.servicer.bots import BotDirectory
from session_service.store.store import Claim, Replayed, Store
from session_service.store.transaction import Transaction

T = TypeVar("T")
Answer = TypeVar("Answer", bound=Message)


@dataclass(frozen=True, slots=True)
class Rooms:
    """What the servicer works with. `retention_us`: microseconds until a deleted session may be purged.
    `import_limit`: bytes of an import, as sent and as unpacked."""

    store: Store
    hub: Hub
    streams: OpenStreams
    bots: BotDirectory
    delegation: Delegation
    page_tokens: PageTokens
    watch_tokens: WatchTokens
    new_id: IdFactory
    patience: Patience
    retention_us: int
    import_limit: int


class Calls(session_service_pb2_grpc.SessionServiceServicer):
    """The base of the servicer's parts."""

    def __init__(self, rooms: Rooms) -> None:
        self._store = rooms.store
        self._hub = rooms.hub
        self._streams = rooms.streams
        self._bots = rooms.bots
        self._delegation = rooms.delegation
        self._page_tokens = rooms.page_tokens
        self._watch_tokens = rooms.watch_tokens
        self._new_id = rooms.new_id
        self._patience = rooms.patience
        self._retention_us = rooms.retention_us
        self._import_limit = rooms.import_limit
        self._names: dict[str, SessionName] = {}
        self._lines = SessionLines()

    def _visible(self, name: str, *, field: str = "name") -> str:
        """The resource name if the caller may see such a session. Raises SessionNotFound, as for a missing one."""
        parsed = parse_session(name, field=field)
        own_bot = bot_of(caller())
        if own_bot is not None and parsed.bot != own_bot:
            raise SessionNotFound(name)
        return name

    def _visible_parts(self, name: str, *, field: str = "name") -> SessionName:
        return parse_session(self._visible(name, field=field), field=field)

    async def _once(
        self,
        request: Any,  # noqa: ANN401 - any message with a request_id
        act: Callable[[Transaction], T],
        answer: Callable[[T], Answer],
        kind: type[Answer],
        *,
        bulk: bool = False,
    ) -> Answer:
        """Does `act` in one commit and answers; a repeated request id gets the first answer. `bulk`: it is long."""
        made: list[Answer] = []

        def encode(value: T) -> bytes:
            made[:] = [answer(value)]
            return made[0].SerializeToString()

        claim = self._claim(request, encode)
        write = self._store.write_bulk if bulk else self._store.write
        result = await write(act, claim)
        if isinstance(result, Replayed):
            return kind.FromString(result)
        # The claim's encoder has made the answer already, in the last of its attempts.
        return made[0] if made else answer(result)

    def _claim(self, request: Any, encode: Callable[[Any], bytes]) -> Claim | None:  # noqa: ANN401
        if not request.request_id:
            return None
        method = request.DESCRIPTOR.name.removesuffix("Request")
        return Claim(caller().actor, method, request.request_id, idempotency.fingerprint(request), encode)
