"""Resetting a session: the one way, for sessions.reset and for text commands."""

import grpc.aio

from chassis.resource_names import SessionName
from gateway.services import Services
from gateway.stopping import stop_run
from mobot.session.v1 import session_pb2
from mobot.session.v1 import session_service_pb2 as session_api


async def reset_session(
    services: Services, name: SessionName, *, reason: str, expected_uid: str, request_id: str = ""
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
        await stop_run(services.sessions, services.router, current)
    response = await services.sessions.ResetSession(
        session_api.ResetSessionRequest(name=name.name, expected_uid=expected_uid, reason=reason, request_id=request_id)
    )
    return response.session


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
