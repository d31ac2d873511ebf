"""How long a call may take and whether it may be repeated: data, not code around calls.

Every unary call has a deadline. Streams have none of their own: they end by cursor, drain or the caller's own timeout.
Only UNAVAILABLE is retried, and only where a repetition cannot do a thing twice: reads, and writes that carry an
identity of their own (deterministic event ids, a mandatory idempotency key). A write with an optional `request_id`
is not in the list, because without the id a repetition would be a second write.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class MethodPolicy:
    """`timeout_s`: deadline of a unary call when the caller sets none; None means none.

    `retries`: further attempts after the first (gRPC allows at most 4). Backoffs in seconds, jittered by gRPC.
    """

    timeout_s: float | None = 15.0
    retries: int = 0
    initial_backoff_s: float = 0.1
    max_backoff_s: float = 2.0
    backoff_multiplier: float = 2.0


FALLBACK: Final = MethodPolicy()

_READ: Final = MethodPolicy(retries=3)
_SLOW_READ: Final = MethodPolicy(timeout_s=60.0, retries=2)
_KEYED_WRITE: Final = MethodPolicy(retries=3)
_SLOW_WRITE: Final = MethodPolicy(timeout_s=120.0)
# Calls that wait for somebody's work: the request names the real limit, this one only bounds a forgotten call.
_WAIT: Final = MethodPolicy(timeout_s=3_660.0)


def full_service_name(service: str) -> str:
    """ "session" -> "mobot.session.v1.SessionService"; a name with dots is one already."""
    return service if "." in service else f"mobot.{service}.v1.{service.capitalize()}Service"


def _rows(service: str, policy: MethodPolicy, methods: str) -> Iterable[tuple[str, MethodPolicy]]:
    return ((f"/{full_service_name(service)}/{method}", policy) for method in methods.split())


# Keys: "/full.Service/Method", or "full.Service" for all its methods without a row of their own.
DEFAULT: Final[Mapping[str, MethodPolicy]] = dict(
    [
        *_rows("registry", _READ, "GetBot ListBots GetAgentCard ListWorkers GetWorker"),
        *_rows("registry", _SLOW_WRITE, "ApplyBots"),
        *_rows(
            "session",
            _READ,
            """GetSession BatchGetSessions ResolveSession ListSessions ListEvents GetEvent GetTurnContext ListShareLinks
            GetTemplate ListTemplates ListGroups""",
        ),
        *_rows("session", _KEYED_WRITE, "AppendEvents BatchAppendEvents"),
        *_rows("session", _SLOW_READ, "SearchEvents GetSessionUsage GetUsageSummary"),
        *_rows("session", _SLOW_WRITE, "ForkSession MergeSessions PurgeSession"),
        *_rows(
            "router",
            _READ,
            """GetMessage ListMessages ListDeadLetters ListTopics ListSchedules GetMailboxStats GetPolicy
            ListAuditEntries""",
        ),
        *_rows("router", _WAIT, "AskMessage WaitRun PullDeliveries"),
        *_rows("router", _SLOW_WRITE, "RedriveDeadLetters DiscardDeadLetters"),
        *_rows(
            "memory",
            _READ,
            """GetMemory ListMemories ListMemoryVersions GetBlock ListBlocks ListBlockVersions ListGrants ListAccesses
            GetOperation ListOperations GetMemoryStats""",
        ),
        *_rows("memory", _SLOW_READ, "SearchMemories"),
        *_rows("memory", _SLOW_WRITE, "BatchPutMemories EraseNamespace ReindexNamespace"),
    ]
)


def policy_for(method: str, policies: Mapping[str, MethodPolicy] = DEFAULT) -> MethodPolicy:
    """The policy of "/full.Service/Method": its own row, its service's, or the fallback."""
    own = policies.get(method)
    if own is not None:
        return own
    return policies.get(method.lstrip("/").partition("/")[0], FALLBACK)


def service_config_json(
    service_full_name: str, *, policies: Mapping[str, MethodPolicy] = DEFAULT, round_robin: bool = False
) -> str:
    """The gRPC service config of one service: its retries, and spreading calls over all addresses if asked.

    Timeouts are not in it: gRPC would take them as upper bounds of a caller's own, longer timeout.
    """
    method_configs: list[dict[str, Any]] = []
    for key, policy in policies.items():
        service, _, method = key.lstrip("/").partition("/")
        if service == service_full_name and policy.retries:
            name = {"service": service, "method": method} if method else {"service": service}
            method_configs.append({"name": [name], "retryPolicy": _retry_policy(policy)})
    config: dict[str, Any] = {"methodConfig": method_configs}
    if round_robin:
        config["loadBalancingConfig"] = [{"round_robin": {}}]
    return json.dumps(config)


def _retry_policy(policy: MethodPolicy) -> dict[str, Any]:
    return {
        "maxAttempts": policy.retries + 1,
        "initialBackoff": f"{policy.initial_backoff_s}s",
        "maxBackoff": f"{policy.max_backoff_s}s",
        "backoffMultiplier": policy.backoff_multiplier,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
