"""The servicer: all its calls in one class."""

from session_service.servicer.algebra import AlgebraCalls
from session_service.servicer.append_stream import AppendStreamCalls
from session_service.servicer.reports import ReportCalls
from session_service.servicer.shares import ShareCalls
from session_service.servicer.templates import TemplateCalls


class SessionServicer(AlgebraCalls, TemplateCalls, AppendStreamCalls, ReportCalls, ShareCalls):
    """What it does not define answers UNIMPLEMENTED, by the generated base class."""
