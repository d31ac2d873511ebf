"""The policy and the record of decisions."""

import re
from typing import Final

from chassis.errors import field_invalid
from mobot.router.v1 import message_pb2
from router_service.convert.times import set_time
from router_service.domain.policy import Action, Rule
from router_service.store.policies import Entry, StoredPolicy

_MAX_RULES: Final = 1_000
_PATTERN: Final = re.compile(
    r"bots/(\*|[a-z0-9][a-z0-9_-]{0,63})|label:[a-z0-9]([a-z0-9._/-]{0,61}[a-z0-9])?=[^\x00-\x1f\x7f]{0,128}"
)
_ACTIONS: Final = frozenset(Action)


def read_rules(given: message_pb2.Policy) -> tuple[Rule, ...]:
    """Raises INVALID_ARGUMENT (FIELD_INVALID)."""
    if len(given.rules) > _MAX_RULES:
        raise field_invalid("policy.rules", f"must be at most {_MAX_RULES}")
    found: list[Rule] = []
    for number, rule in enumerate(given.rules):
        field = f"policy.rules[{number}]"
        for name, pattern in (("actor", rule.actor), ("target", rule.target)):
            if not _PATTERN.fullmatch(pattern):
                rule_text = "must be bots/{bot}, bots/* or label:{key}={value}"
                raise field_invalid(f"{field}.{name}", rule_text, value=pattern[:80])
        if not rule.actions or not _ACTIONS.issuperset(rule.actions):
            raise field_invalid(f"{field}.actions", f"must be some of {', '.join(sorted(_ACTIONS))}")
        found.append(Rule(rule.actor, rule.target, frozenset(map(Action, rule.actions)), rule.allow))
    return tuple(found)


def to_proto_policy(stored: StoredPolicy) -> message_pb2.Policy:
    policy = message_pb2.Policy(etag=f"v{stored.version}" if stored.version else "")
    for rule in stored.rules:
        policy.rules.add(actor=rule.actor, target=rule.target, actions=sorted(rule.actions), allow=rule.allow)
    return policy


def to_proto_entry(entry: Entry) -> message_pb2.AuditEntry:
    found = message_pb2.AuditEntry(
        actor=entry.actor,
        action=entry.action,
        target=entry.target,
        allowed=entry.allowed,
        detail=entry.detail,
        message=f"messages/{entry.message}" if entry.message else "",
    )
    set_time(found.create_time, entry.create_us)
    return found
