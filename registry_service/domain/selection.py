"""Which bots and workers a list or a watch selects."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from registry_service.domain.bot import Bot, Lifecycle
from registry_service.domain.brain import BrainKind, kind_of
from registry_service.domain.status import BotState
from registry_service.domain.worker import Worker, WorkerState


@dataclass(frozen=True, slots=True)
class BotFilter:
    """Every set part must hold; `bots` are ids, `text` is a literal part of id, display name or description."""

    labels: Mapping[str, str] = field(default_factory=dict)
    states: frozenset[BotState] = frozenset()
    brains: frozenset[BrainKind] = frozenset()
    enabled: bool | None = None
    bots: frozenset[str] = frozenset()
    text: str = ""
    capability: str = ""
    owner: str = ""
    show_deleted: bool = False

    def selects(self, bot: Bot) -> bool:
        settings = bot.settings
        return (
            (self.show_deleted or bot.lifecycle is not Lifecycle.DELETED)
            and (not self.bots or bot.id in self.bots)
            and (not self.states or bot.status.state in self.states)
            and (not self.brains or kind_of(settings.brain) in self.brains)
            and (self.enabled is None or bot.enabled is self.enabled)
            and (not self.owner or settings.owner == self.owner)
            and (not self.capability or any(each.id == self.capability for each in settings.capabilities))
            and all(settings.labels.get(key) == value for key, value in self.labels.items())
            and (not self.text or self.text.casefold() in searched_text(bot))
        )

    def selects_worker(self, worker: Worker) -> bool:
        """Whether a watch with this filter tells of `worker`: those of the named bots, or all."""
        return not self.bots or not self.bots.isdisjoint(worker.bots)


@dataclass(frozen=True, slots=True)
class WorkerFilter:
    bot: str = ""
    states: frozenset[WorkerState] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict)


def searched_text(bot: Bot) -> str:
    """What a text filter looks into, with case folded away."""
    return "\n".join((bot.id, bot.settings.display_name, bot.settings.description)).casefold()
