"""Who may message, spawn and read whom."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Action(StrEnum):
    SEND = "send"
    SPAWN = "spawn"
    READ = "read"


@dataclass(frozen=True, slots=True)
class Party:
    """A bot as rules see it. `owner` is empty when nobody is known to own it."""

    bot: str
    owner: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rule:
    """`actor` and `target` are "bots/{bot}", "bots/*" or "label:{key}={value}"."""

    actor: str
    target: str
    actions: frozenset[Action]
    allow: bool

    def fits(self, actor: Party, target: Party, action: Action) -> bool:
        return action in self.actions and _fits(self.actor, actor) and _fits(self.target, target)


@dataclass(frozen=True, slots=True)
class Decision:
    """`detail` says which rule decided."""

    allowed: bool
    detail: str


def decide(rules: Iterable[Rule], actor: Party, target: Party, action: Action) -> Decision:
    """The first rule that fits decides; none: a bot may do anything to itself and to bots of its owner, and may not
    read them."""
    if actor.bot == target.bot:
        return Decision(True, "the bot's own")
    for number, rule in enumerate(rules, 1):
        if rule.fits(actor, target, action):
            return Decision(rule.allow, f"rule {number}: {rule.actor} -> {rule.target}")
    if action is Action.READ:
        return Decision(False, "no rule allows it")
    if actor.owner == target.owner:
        return Decision(True, "one owner")
    return Decision(False, "other owners, and no rule allows it")


def _fits(pattern: str, party: Party) -> bool:
    if pattern == "bots/*":
        return True
    if pattern.startswith("label:"):
        key, _, value = pattern.removeprefix("label:").partition("=")
        return party.labels.get(key) == value
    return pattern == party.bot
