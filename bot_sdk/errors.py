"""What ends an attempt badly: raised by a handler to say how, or by the SDK to tell a handler that it is over.

Services' own errors reach a handler as `chassis.errors` subclasses; one that a handler lets through ends the attempt
as retryable when waiting can help (unavailable, exhausted, too slow, aborted) and for good otherwise.
"""

from collections.abc import Sequence

from bot_sdk.model import RunResult


class TurnFailed(Exception):
    """The attempt failed. `reason` is UPPER_SNAKE_CASE, at most 64 characters; `message` is for people."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason


class Retryable(TurnFailed):
    """Another attempt may help. `retry_after_s` is how long to wait before it; None leaves that to the router."""

    def __init__(self, message: str, *, reason: str = "HANDLER_FAILED", retry_after_s: float | None = None) -> None:
        super().__init__(message, reason=reason)
        self.retry_after_s = retry_after_s


class Permanent(TurnFailed):
    """No other attempt will help: the run ends as failed."""

    def __init__(self, message: str, *, reason: str = "HANDLER_FAILED") -> None:
        super().__init__(message, reason=reason)


class NeedsDecision(TurnFailed):
    """The run stops until a person decides. `choices` are the allowed answers, none for free text."""

    def __init__(
        self, question: str, *, choices: Sequence[str] = (), call_id: str = "", reason: str = "NEEDS_DECISION"
    ) -> None:
        super().__init__(question, reason=reason)
        self.choices = tuple(choices)
        self.call_id = call_id


class LeaseLost(Exception):
    """Another attempt has the session, or the turn is over: nothing more can be written. Let it pass."""


class WorkerReplaced(Exception):
    """Another process attached under the same worker id; this one must stop."""


class NoReply(Exception):
    """A message was delivered, and no reply came: the run goes on still, or ended without one."""

    def __init__(self, result: RunResult) -> None:
        state = f"ended as {result.state}" if result.done else "goes on"
        super().__init__(f"no reply from {result.session}: its run {result.run} {state}")
        self.result = result
