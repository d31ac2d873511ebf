"""Resetting a session and stopping what it does: the one way, for sessions.reset and for text commands."""

import grpc.aio
from google.protobuf import duration_pb2

from chassis.resource_names import SessionName
from gateway.services import Services
from mobot.router.v1 import router_service_pb2 as router_api
from mobot.session.v1 import session_pb2
from mobot.session.v1 import session_service_pb2 as session_api

# A cancelled run may take this long to write down what it has; the router takes its lease away after that.
_STOP_TIMEOUT_S = 6


async def reset_session(
    services: Services, name: SessionName, *, reason: str, expected_uid: str, request_id: str
) -> session_pb2.Session:
    """The session with its new transcript; its active run is stopped first. A missing session is created.

    Raises:
        AioRpcError: SESSION_PERSISTENT, SESSION_CHANGED, and whatever else the services refuse.
    """
    try:
        current = (await services.sessions.GetSession(session_api.GetSessionRequest(name=name.name))).session
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.NOT_FOUND:
            raise
        return await ensure_session(services, name)
    if current.active_runs:
        # What is going to be refused must not have stopped the run before.
        await services.sessions.ResetSession(
            session_api.ResetSessionRequest(name=name.name, expected_uid=expected_uid, validate_only=True)
        )
        await stop_run(services, current)
    response = await services.sessions.ResetSession(
        session_api.ResetSessionRequest(name=name.name, expected_uid=expected_uid, reason=reason, request_id=request_id)
    )
    return response.session


async def stop_run(services: Services, session: session_pb2.Session) -> None:
    """Cancels what the session is doing and waits until it has stopped."""
    response = await services.router.CancelRun(
        router_api.CancelRunRequest(session=session.name, reason="the session was reset or deleted")
    )
    for run in response.cancelled_runs:
        await services.router.WaitRun(
            router_api.WaitRunRequest(run=run, timeout=duration_pb2.Duration(seconds=_STOP_TIMEOUT_S))
        )


async def ensure_session(services: Services, name: SessionName) -> session_pb2.Session:
    """The session as it is, created when missing."""
    response = await services.sessions.CreateSession(
        session_api.CreateSessionRequest(
            parent=f"bots/{name.bot}",
            session_id=name.session,
            session=session_pb2.Session(created_via="operator", user_created=True),
            conflict_policy=session_api.CONFLICT_POLICY_USE_EXISTING,
        )
    )
    return response.session
