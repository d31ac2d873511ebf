"""Stopping what a session does, before it is reset or deleted."""

from typing import TYPE_CHECKING

from google.protobuf import duration_pb2

from chassis.waiting import within
from mobot.router.v1 import router_service_pb2 as router_api
from mobot.session.v1 import session_pb2
from mobot.session.v1 import session_service_pb2 as session_api

if TYPE_CHECKING:
    from mobot.router.v1 import router_service_pb2_grpc
    from mobot.session.v1 import session_service_pb2_grpc

# A cancelled run may take this long to write down what it has; the router takes its lease away after that.
_STOP_TIMEOUT_S = 6


async def stop_run(
    sessions: "session_service_pb2_grpc.SessionServiceAsyncStub",
    router: "router_service_pb2_grpc.RouterServiceAsyncStub",
    session: session_pb2.Session,
) -> None:
    """Cancels what the session is doing; returns when its end stands in the transcript, where it belongs.

    `session` is as it was read lately; what ends after that is waited for.
    """
    response = await router.CancelRun(
        router_api.CancelRunRequest(session=session.name, reason="the session was reset or deleted")
    )
    for run in response.cancelled_runs:
        timeout = duration_pb2.Duration(seconds=_STOP_TIMEOUT_S)
        await router.WaitRun(router_api.WaitRunRequest(run=run, timeout=timeout))
    at_work = set(session.active_runs).intersection(response.cancelled_runs)
    if at_work:
        # The router writes the end down after it has decided it. If it cannot, that end comes in the next transcript.
        await within(_STOP_TIMEOUT_S, _ended(sessions, session, at_work))


async def _ended(
    sessions: "session_service_pb2_grpc.SessionServiceAsyncStub", session: session_pb2.Session, runs: set[str]
) -> None:
    watch = sessions.WatchEvents(
        session_api.WatchEventsRequest(
            sessions=[session.name], kinds=["run_finished"], after_sequence=session.last_sequence
        )
    )
    try:
        async for frame in watch:
            runs -= {event.run for event in frame.events}
            if not runs:
                return
    finally:
        watch.cancel()
