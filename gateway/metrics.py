"""The gateway's own meters, beside the chassis's RPC meters in one registry."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class GatewayMetrics:
    """Labels are low-cardinality: method names we serve, error codes, never session keys."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.sockets = Gauge("gateway_sockets", "Clients connected now.", registry=registry)
        self.requests = Counter(
            "gateway_requests", "Requests answered, by method and outcome.", ("method", "code"), registry=registry
        )
        self.request_seconds = Histogram(
            "gateway_request_seconds",
            "Time from a request's arrival to its answer.",
            ("method",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.events = Counter("gateway_events", "Events handed to all clients, by name.", ("event",), registry=registry)
        self.watch_reconnects = Counter(
            "gateway_watch_reconnects", "Times the stream from the session service was resumed.", registry=registry
        )
        self.mail_reconnects = Counter(
            "gateway_mail_reconnects", "Times the stream to the router was opened again.", registry=registry
        )
