"""What is counted of a worker's turns and tool calls."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

OTHER: Final = "other"
_MAX_NAMES: Final = 64
_TURN_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)


class TurnMeters:
    """Counts since the start of the process. No label names a bot, a session or a person."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """Without a `registry` they are counted all the same, and nobody reads them."""
        self._ended = Counter("bot_turns", "Turns that ended, by how.", ("outcome",), registry=registry)
        self._seconds = Histogram(
            "bot_turn_seconds",
            "Time from a message's delivery to the end of its turn.",
            buckets=_TURN_SECONDS,
            registry=registry,
        )
        self._failures = Counter("bot_turn_failures", "Turns that failed, by reason.", ("reason",), registry=registry)
        self._calls = Counter("bot_tool_calls", "Tool calls made, by outcome.", ("tool", "outcome"), registry=registry)
        self._call_seconds = Counter("bot_tool_seconds", "Time spent in tool calls.", ("tool",), registry=registry)
        self._reasons: set[str] = set()
        self._tools: set[str] = set()

    def turn_ended(self, outcome: str, seconds: float, *, reason: str = "") -> None:
        """`reason` is given of a turn that failed."""
        self._ended.labels(outcome).inc()
        self._seconds.observe(seconds)
        if reason:
            self._failures.labels(_bounded(reason, self._reasons)).inc()

    def tool_called(self, tool: str, outcome: str, seconds: float) -> None:
        """A call that was made, not one whose result an earlier attempt had committed."""
        name = _bounded(tool, self._tools)
        self._calls.labels(name, outcome).inc()
        self._call_seconds.labels(name).inc(seconds)


def _bounded(name: str, known: set[str]) -> str:
    """The name, or `OTHER` where there are too many: handlers make up reasons and names of tools."""
    if name in known:
        return name
    if len(known) >= _MAX_NAMES:
        return OTHER
    known.add(name)
    return name
