"""What is counted of the models that the bots ask."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

from bot_sdk.model import Consumption

_SECONDS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


class ModelMeters:
    """Counts since the start of the process. No label names a bot, an endpoint or a model."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """Without a `registry` they are counted all the same, and nobody reads them."""
        self._requests = Counter(
            "bot_model_requests", "Rounds asked of models, by how they ended.", ("outcome",), registry=registry
        )
        self._seconds = Histogram(
            "bot_model_seconds",
            "Time from a request to the last piece of its answer, with its repetitions.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._tokens = Counter(
            "bot_model_tokens", "Tokens that models said they used, by kind.", ("kind",), registry=registry
        )

    def answered(self, seconds: float, used: Consumption) -> None:
        self._ended("ok", seconds)
        for kind, count in (
            ("input", used.input_tokens),
            ("output", used.output_tokens),
            ("cache_read", used.cache_read_tokens),
            ("cache_write", used.cache_write_tokens),
        ):
            self._tokens.labels(kind).inc(count)

    def failed(self, seconds: float, reason: str) -> None:
        """`reason` is one of ours, such as MODEL_TIMEOUT; CANCELLED where the turn was stopped meanwhile."""
        self._ended(reason, seconds)

    def _ended(self, outcome: str, seconds: float) -> None:
        self._requests.labels(outcome).inc()
        self._seconds.observe(seconds)
