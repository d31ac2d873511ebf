"""What every outgoing call carries without its caller having to say so: identity, trace context and a deadline."""

from collections.abc import Iterable, Mapping

from chassis.identity import caller_metadata
from chassis.policy import DEFAULT, MethodPolicy, policy_for
from chassis.telemetry import CURRENT_TRACEPARENT, TRACEPARENT

Pairs = tuple[tuple[str, str | bytes], ...]


class Outgoing:
    """The identity and the policies of one dialer."""

    def __init__(self, token: str, actor: str | None, policies: Mapping[str, MethodPolicy] = DEFAULT) -> None:
        self._identity: Pairs = caller_metadata(token, actor) if token else ()
        self._policies = policies

    def metadata(self, given: Iterable[tuple[str, str | bytes]] | None) -> Pairs:
        """The pairs to send. What the call itself gives replaces ours of the same key (a per-call `mobot-actor`)."""
        ours = self._identity
        traceparent = CURRENT_TRACEPARENT.get()
        if traceparent:
            ours = (*ours, (TRACEPARENT, traceparent))
        if not given:
            return ours
        theirs = tuple(given)
        keys = {key for key, _ in theirs}
        return (*(pair for pair in ours if pair[0] not in keys), *theirs)

    def timeout_s(self, method: str) -> float | None:
        """The deadline of a unary call whose caller sets none."""
        return policy_for(method, self._policies).timeout_s
