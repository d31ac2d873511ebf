"""One watch of the session service that does not end: it goes on after its last token, whatever cuts it."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable

import grpc.aio

from chassis import status
from mobot.session.v1 import session_service_pb2, session_service_pb2_grpc

logger = logging.getLogger(__name__)

_FIRST_BACKOFF_S = 0.05
_MAX_BACKOFF_S = 2.0
# Reasons that say that the token will never work again.
_TOKEN_USELESS = frozenset({"WATCH_TOKEN_INVALID", "WATCH_TOKEN_TOO_OLD"})


async def follow(
    stub: "session_service_pb2_grpc.SessionServiceAsyncStub",
    request: session_service_pb2.WatchEventsRequest,
    *,
    on_reconnect: Callable[[], None],
    forgive_token: bool = True,
) -> AsyncGenerator[session_service_pb2.WatchEventsResponse]:
    """Yields the frames of a watch, resuming after each disconnect with the last token.

    A frame with `reset` set says that events may be missing: sent by the service, or made here when the token is
    refused. Close it with contextlib.aclosing.

    Raises:
        AppError: the first token is refused and `forgive_token` is false.
    """
    token = request.resume_token
    has_token_of_ours = False
    backoff_s = _FIRST_BACKOFF_S
    while True:
        attempt = session_service_pb2.WatchEventsRequest()
        attempt.CopyFrom(request)
        attempt.resume_token = token
        call = stub.WatchEvents(attempt)
        try:
            async for frame in call:
                backoff_s = _FIRST_BACKOFF_S
                if frame.resume_token:
                    token = frame.resume_token
                    has_token_of_ours = True
                yield frame
        except grpc.aio.AioRpcError as error:
            refusal = status.from_rpc_error(error)
            logger.info("watch ended", extra={"code": refusal.code, "reason": refusal.reason})
            if refusal.reason in _TOKEN_USELESS:
                if not forgive_token and not has_token_of_ours:
                    raise refusal from None
                token = ""
                yield session_service_pb2.WatchEventsResponse(
                    reset=session_service_pb2.WatchReset(message=refusal.message)
                )
            elif refusal.code in ("INVALID_ARGUMENT", "PERMISSION_DENIED", "UNAUTHENTICATED", "UNIMPLEMENTED"):
                logger.exception("watch refused", extra={"code": refusal.code, "reason": refusal.reason})
                backoff_s = _MAX_BACKOFF_S
        finally:
            call.cancel()
        await asyncio.sleep(backoff_s)
        backoff_s = min(backoff_s * 2, _MAX_BACKOFF_S)
        on_reconnect()
