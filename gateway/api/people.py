"""What the gateway sees to before a call about a session, since those who call here are people."""

from typing import TYPE_CHECKING

import grpc.aio
from google.protobuf.message import Message

from gateway.stopping import stop_run
from mobot.session.v1 import session_pb2, session_service_pb2

if TYPE_CHECKING:
    from mobot.router.v1 import router_service_pb2_grpc
    from mobot.session.v1 import session_service_pb2_grpc


class People:
    """Sessions that people make count as theirs; what is reset or deleted is stopped first, as clients expect it."""

    def __init__(
        self,
        sessions: "session_service_pb2_grpc.SessionServiceAsyncStub",
        router: "router_service_pb2_grpc.RouterServiceAsyncStub",
    ) -> None:
        self._sessions = sessions
        self._router = router

    async def prepare(self, request: Message) -> None:
        """Raises AioRpcError: what the session service refuses, for which nothing is stopped."""
        match request:
            case session_service_pb2.CreateSessionRequest():
                request.session.user_created = True
            case session_service_pb2.ForkSessionRequest():
                request.target.session.user_created = True
            case session_service_pb2.ResetSessionRequest() if not request.validate_only:
                await self._stop_for_reset(request)
            case session_service_pb2.DeleteSessionRequest():
                await self._stop_for_deletion(request)

    async def _stop_for_reset(self, request: session_service_pb2.ResetSessionRequest) -> None:
        session = await self._at_work(request.name)
        if session is not None:
            trial = session_service_pb2.ResetSessionRequest()
            trial.CopyFrom(request)
            trial.request_id, trial.validate_only = "", True
            await self._sessions.ResetSession(trial)
            await stop_run(self._sessions, self._router, session)

    async def _stop_for_deletion(self, request: session_service_pb2.DeleteSessionRequest) -> None:
        session = await self._at_work(request.name)
        if session is None or session.name.endswith("/sessions/main"):
            return
        meant = request.expected_uid == session.uid if request.expected_uid else not session.persistent
        if meant and request.etag in ("", session.etag):
            await stop_run(self._sessions, self._router, session)

    async def _at_work(self, name: str) -> session_pb2.Session | None:
        try:
            found = await self._sessions.GetSession(session_service_pb2.GetSessionRequest(name=name))
        except grpc.aio.AioRpcError as error:
            if error.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT):
                return None  # the call itself says so in its own words
            raise
        return found.session if found.session.active_runs else None
