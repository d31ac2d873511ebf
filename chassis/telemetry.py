"""Traces and metrics of one process.

Unsampled calls must cost almost nothing: they carry the caller's `traceparent` on as it came and touch no tracer.
Only a sampled call gets an OpenTelemetry span. Metrics are plain counters in memory, rendered as Prometheus text.
"""

import random
import secrets
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Literal

from opentelemetry import context as otel_context
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from chassis import errors

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

TRACEPARENT = "traceparent"

# The W3C traceparent of the call being served; "" outside a call and in calls that carry none.
CURRENT_TRACEPARENT: ContextVar[str] = ContextVar("mobot_traceparent", default="")

TraceExporter = Literal["none", "otlp", "console"]

# Seconds. From a local call (tens of microseconds) to a call that should have been a stream.
_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


def current_trace_id() -> str:
    """32 hex digits, or "" when the work at hand belongs to no trace."""
    return CURRENT_TRACEPARENT.get()[3:35]


class RpcMetrics:
    """Counts and durations of one method."""

    __slots__ = ("active", "buckets", "codes", "messages_sent", "method", "sum_s")

    def __init__(self, method: str) -> None:
        self.method = method
        self.active = 0
        self.messages_sent = 0
        self.codes: dict[str, int] = {}
        self.buckets = [0] * (len(_BUCKETS) + 1)
        self.sum_s = 0.0

    def observe(self, code: str, seconds: float) -> None:
        self.codes[code] = self.codes.get(code, 0) + 1
        self.buckets[bisect_left(_BUCKETS, seconds)] += 1
        self.sum_s += seconds


class ServerSpan:
    """The span of one sampled call, current until `end`."""

    __slots__ = ("_otel_token", "_span")

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self._otel_token: Token[Context] = otel_context.attach(trace.set_span_in_context(span))

    def end(self, code: str) -> None:
        self._span.set_attribute("rpc.grpc.status", code)
        if code not in ("OK", "CANCELLED"):
            self._span.set_status(trace.StatusCode.ERROR, code)
        self._span.end()
        otel_context.detach(self._otel_token)


class Telemetry:
    """The tracer and the meters of one process. Services add their own meters to `registry`."""

    def __init__(self, service: str, *, exporter: "SpanExporter | None" = None, sample: float = 0.0) -> None:
        """`sample` is the share (0 to 1) of calls without a `traceparent` that start a trace.

        A call with a `traceparent` follows its caller's decision.
        """
        self.registry = CollectorRegistry()
        self.registry.register(_RpcCollector(self))
        ProcessCollector(registry=self.registry)
        self._service = service
        self._sample = sample
        self._methods: dict[tuple[str, str], RpcMetrics] = {}
        self._provider: TracerProvider | None = None
        self._tracer: trace.Tracer | None = None
        if exporter is not None:
            self._provider = _provider(service, exporter)
            self._tracer = self._provider.get_tracer("mobot")

    @classmethod
    def off(cls) -> "Telemetry":
        """Counts, but traces nothing. For tests and short commands."""
        return cls("off")

    @classmethod
    def from_settings(cls, service: str, *, exporter: TraceExporter, sample: float) -> "Telemetry":
        """Raises FailedPrecondition when OTLP is asked for and its exporter is not installed."""
        return cls(service, exporter=_exporter(exporter), sample=sample)

    def rpc(self, service: str, method: str) -> RpcMetrics:
        """The counters of one method of one service; made at the first question."""
        metrics = self._methods.get((service, method))
        if metrics is None:
            metrics = self._methods[service, method] = RpcMetrics(method)
        return metrics

    def rpcs(self) -> Iterable[tuple[str, RpcMetrics]]:
        return [(service, metrics) for (service, _), metrics in self._methods.items()]

    def start_span(self, method: str, traceparent: str) -> ServerSpan | None:
        """A span for a call if it is sampled; None, quickly, if not."""
        if self._tracer is None:
            return None
        if traceparent:
            if not _is_sampled(traceparent):
                return None
            parent: Context | None = propagate.extract({TRACEPARENT: traceparent})
        else:
            # Sampling decides what is looked at, not what is safe: no need for a cryptographic source.
            if random.random() >= self._sample:
                return None
            parent = None
        span = self._tracer.start_span(
            method.lstrip("/"),
            context=parent,
            kind=trace.SpanKind.SERVER,
            attributes={"rpc.system": "grpc", "rpc.method": method, "mobot.service": self._service},
        )
        return ServerSpan(span)

    def render_metrics(self) -> bytes:
        """All meters in the Prometheus text format, for /metrics."""
        return generate_latest(self.registry)

    def close(self) -> None:
        """Sends the last spans. Blocks up to a few seconds: call it at the very end, or in a thread."""
        provider, self._provider = self._provider, None
        if provider is not None:
            provider.shutdown()


def traceparent_of_current_span() -> str:
    """The current OpenTelemetry span as a `traceparent`, "" without one."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier.get(TRACEPARENT, "")


def new_trace_id() -> str:
    """An id for a failure that belongs to no trace, so that the answer and our log can be matched."""
    return secrets.token_hex(16)


def _is_sampled(traceparent: str) -> bool:
    # "00-<32 hex>-<16 hex>-<2 hex flags>"; bit 0 of the flags. Anything malformed is simply not sampled.
    return len(traceparent) == 55 and traceparent[-1] in "13579bdf"


def _provider(service: str, exporter: "SpanExporter") -> "TracerProvider":
    # Imported here: the SDK takes 0.2 s to load, and most processes trace nothing.
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON

    resource = Resource.create({"service.name": f"mobot-{service}"})
    provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _exporter(kind: TraceExporter) -> "SpanExporter | None":
    if kind == "none":
        return None
    if kind == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter()
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise errors.FailedPrecondition(
            "MOBOT_TRACE_EXPORTER=otlp needs the extra: pip install 'mobot[otlp]'"
        ) from error
    return OTLPSpanExporter()


class _RpcCollector(Collector):
    """Presents the plain counters as Prometheus families at scrape time, so that calls need not pay for it."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def collect(self) -> Iterator[Metric]:
        handled = CounterMetricFamily("rpc_server_handled", "Finished calls.", labels=["service", "method", "code"])
        duration = HistogramMetricFamily(
            "rpc_server_duration_seconds", "Time from request to status.", labels=["service", "method"]
        )
        active = GaugeMetricFamily("rpc_server_active", "Calls in progress.", labels=["service", "method"])
        sent = CounterMetricFamily("rpc_server_messages_sent", "Streamed messages.", labels=["service", "method"])
        for service, rpc in self._telemetry.rpcs():
            labels = [service, rpc.method]
            for code, count in rpc.codes.items():
                handled.add_metric([*labels, code], count)
            duration.add_metric(labels, _cumulative(rpc.buckets), rpc.sum_s)
            active.add_metric(labels, rpc.active)
            sent.add_metric(labels, rpc.messages_sent)
        yield from (handled, duration, active, sent)


def _cumulative(buckets: list[int]) -> list[tuple[str, float]]:
    total = 0
    rows: list[tuple[str, float]] = []
    for bound, count in zip((*_BUCKETS, float("inf")), buckets, strict=True):
        total += count
        rows.append(("+Inf" if bound == float("inf") else str(bound), total))
    return rows
