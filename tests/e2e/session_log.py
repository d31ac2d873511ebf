"""The session service's log as any outside program reads it: a generated stub over loopback TCP with the token."""

import grpc
from harness import Mobot

from mobot.session.v1 import event_pb2, session_service_pb2, session_service_pb2_grpc


def authorization(mobot: Mobot) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {mobot.token}")]


def events_of(mobot: Mobot, session: str) -> list[event_pb2.Event]:
    """All events of a session (a resource name), over all its transcripts, oldest first."""
    request = session_service_pb2.ListEventsRequest(
        parent=session, filter=session_service_pb2.EventFilter(session_uid="*"), page_size=1000
    )
    found: list[event_pb2.Event] = []
    with grpc.insecure_channel(mobot.address("session")) as channel:
        stub = session_service_pb2_grpc.SessionServiceStub(channel)
        while True:
            page = stub.ListEvents(request, metadata=authorization(mobot), timeout=40, wait_for_ready=True)
            found += page.events
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token


def runs_finished(events: list[event_pb2.Event]) -> list[str]:
    """The runs with a terminal event, once for each such event, in the order of the log."""
    return [event.run for event in events if event.WhichOneof("payload") == "run_finished"]


def texts(events: list[event_pb2.Event], role: int, run: str = "") -> list[str]:
    """The texts of a role's whole messages, of one run or of all."""
    return [
        "".join(part.text for part in event.message.parts)
        for event in events
        if event.WhichOneof("payload") == "message"
        and event.message.role == role
        and not event.message.partial
        and run in ("", event.run)
    ]
