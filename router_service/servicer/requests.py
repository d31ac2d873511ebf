"""Changes that are made once for each request id, in the transaction that records it."""

from collections.abc import Callable
from typing import TypeVar

from google.protobuf.message import Message
from sqlalchemy import Connection

from chassis import idempotency
from chassis.clock import Clock
from chassis.idempotency import RequestKey
from chassis.identity import Caller
from router_service.store.router_store import RouterStore

Response = TypeVar("Response", bound=Message)


class Requests:
    """Runs writes that answer a request."""

    def __init__(self, store: RouterStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def once(
        self, request: Message, caller: Caller, kind: type[Response], change: Callable[[Connection], Response]
    ) -> Response:
        """What `change` answers, or what it answered when the request came before.

        Raises:
            InvalidArgument: REQUEST_ID_REUSED.
        """
        key, now, table = key_of(request, caller, kind), self._clock.now(), self._store.ledger

        def write(conn: Connection) -> Response:
            known = idempotency.find(conn, table, key)
            if known is not None:
                return kind.FromString(known)
            response = change(conn)
            idempotency.remember(conn, table, key, response=response.SerializeToString(), now=now)
            return response

        return await self._store.write(write)


def key_of(request: Message, caller: Caller, kind: type[Message]) -> RequestKey:
    """`kind` is what the call answers: its name stands for the method's."""
    request_id: str = getattr(request, "request_id", "")
    return RequestKey(caller.actor, kind.DESCRIPTOR.name, request_id, idempotency.fingerprint(request))
