"""The servicer: all its calls in one class."""

from session_service.servicer.algebra import AlgebraCalls
from session_service.servicer.append_stream import AppendStreamCalls
from session_service.servicer.portability import PortabilityCalls
from session_service.servicer.reports import ReportCalls
from session_service.servicer.shares import ShareCalls
from session_service.servicer.templates import TemplateCalls


class SessionServicer(AlgebraCalls, TemplateCalls, AppendStreamCalls, ReportCalls, ShareCalls, PortabilityCalls):
    """What it did not define would answer UNIMPLEMENTED, by the generated base class."""
