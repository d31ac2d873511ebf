"""What is counted of the service's own work."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class SweepMetrics:
    """Counters of the sweeps; `sweep` is "warn", "archive", "purge" or "remove"."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.items = Counter(
            "mobot_session_swept",
            "Sessions that sweeps warned of, archived or purged, and events removed after purges.",
            ("sweep",),
            registry=registry,
        )
        self.failures = Counter(
            "mobot_session_sweep_failures", "Sweeps that were broken off; the next one goes on.", registry=registry
        )
        self.finished = Gauge(
            "mobot_session_sweep_finished_seconds",
            "When the newest sweep came to its end, Unix time.",
            registry=registry,
        )
