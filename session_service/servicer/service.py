"""The servicer: all its calls in one class."""

from session_service.servicer.events import EventCalls
from session_service.servicer.sessions import SessionCalls


class SessionServicer(SessionCalls, EventCalls):
    """What it does not define answers UNIMPLEMENTED, by the generated base class."""
