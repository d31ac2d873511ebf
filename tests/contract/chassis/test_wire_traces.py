"""Traces follow a call through services, and unsampled calls pay nothing for them."""

import grpc
import grpc.aio
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from wire_world import SECRET, Lifecycle, Servicer, Stub, make_service

from chassis.channel import Dialer
from chassis.clock import FakeClock
from chassis.identity import Authenticator
from chassis.interceptors import server_chain
from chassis.telemetry import CURRENT_TRACEPARENT, Telemetry

_TRACE = "0af7651916cd43dd8448eb211c80319c"
_SAMPLED = f"00-{_TRACE}-b7ad6b7169203331-01"
_UNSAMPLED = f"00-{_TRACE}-b7ad6b7169203331-00"


class _Relay(Servicer):
    """Asks the next service."""

    def __init__(self, following):
        super().__init__()
        self._following = following

    async def Echo(self, request, context):
        return await self._following.Echo(request)


@pytest.fixture
def relay():
    """`start()` gives the stub of a service that asks a second one; `relay` knows that one and the spans of both."""
    started = _Traced()
    yield started
    started.close()


class _Traced:
    def __init__(self):
        self.second = Servicer()
        self._ends = []

    def start(self, *, sample=0.0):
        return self._serve(_Relay(self._serve(self.second, sample)), sample)

    def spans(self):
        """Of the second service, then of the first."""
        self.close()
        return [span for _, exporter in self._ends for span in exporter.get_finished_spans()]

    def close(self):
        for telemetry, _ in self._ends:
            telemetry.close()

    def _serve(self, servicer, sample):
        exporter = InMemorySpanExporter()
        telemetry = Telemetry("test", exporter=exporter, sample=sample)
        self._ends.append((telemetry, exporter))
        chain = server_chain(
            service="test", authenticator=Authenticator(SECRET), clock=FakeClock(), telemetry=telemetry
        )
        dialer = Dialer({"test": "local:"}, token=SECRET, actor=None)
        dialer.add_local(make_service(servicer, Lifecycle()), chain)
        return Stub(dialer.dial("test"))


async def test_a_sampled_call_makes_a_span_in_each_service(relay):
    await relay.start().Echo(b"", metadata=(("traceparent", _SAMPLED),))
    inner, outer = relay.spans()
    assert {format(span.context.trace_id, "032x") for span in (inner, outer)} == {_TRACE}
    assert format(outer.parent.span_id, "016x") == "b7ad6b7169203331"
    assert inner.parent.span_id == outer.context.span_id
    assert relay.second.metadata["traceparent"].startswith(f"00-{_TRACE}-")
    assert outer.attributes["rpc.grpc.status"] == "OK"
    assert CURRENT_TRACEPARENT.get() == ""


async def test_an_unsampled_trace_is_carried_on_unchanged(relay):
    await relay.start(sample=1.0).Echo(b"", metadata=(("traceparent", _UNSAMPLED),))
    assert relay.second.metadata["traceparent"] == _UNSAMPLED
    assert not relay.spans()


async def test_a_call_without_a_trace_starts_one_if_it_is_drawn(relay):
    await relay.start(sample=1.0).Echo(b"")
    inner, outer = relay.spans()
    assert outer.parent is None
    assert inner.parent.span_id == outer.context.span_id
    assert relay.second.metadata["traceparent"].endswith(("-01", "-03"))


async def test_a_call_without_a_trace_stays_without(relay):
    await relay.start(sample=0.0).Echo(b"")
    assert "traceparent" not in relay.second.metadata
    assert not relay.spans()


async def test_a_malformed_traceparent_is_no_error(relay):
    assert await relay.start(sample=1.0).Echo(b"fine", metadata=(("traceparent", "garbage"),)) == b"fine"


async def test_a_failed_span_says_so(relay):
    with pytest.raises(grpc.aio.AioRpcError):
        await relay.start().Abort(b"", metadata=(("traceparent", _SAMPLED),))
    (span,) = relay.spans()
    assert span.attributes["rpc.grpc.status"] == "ABORTED"
    assert not span.status.is_ok
