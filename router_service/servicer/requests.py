"""Changes that are made once for each request id, in the transaction that records it."""

from collections.abc import Callable
from typing import TypeVar

from google.protobuf.message import Message
from sqlalchemy import Connection

from chassis import idempotency
from chassis.clock import Clock
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
        request_id: str = getattr(request, "request_id", "")
        method, fingerprint, now = kind.DESCRIPTOR.name, idempotency.fingerprint(request), self._clock.now()
        table = self._store.ledger

        def write(conn: Connection) -> Response:
            known = idempotency.find(
                conn,
                table,
                principal=caller.actor,
                method=method,
                request_id=request_id,
                fingerprint=fingerprint,
            )
            if known is not None:
                return kind.FromString(known)
            response = change(conn)
            idempotency.remember(
                conn,
                table,
                principal=caller.actor,
                method=method,
                request_id=request_id,
                fingerprint=fingerprint,
                response=response.SerializeToString(),
                now=now,
            )
            return response

        return await self._store.write(write)
