"""How a bot is doing: derived from its workers' leases and reports, never written by a caller."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

MAX_SHOWN_WORKERS = 32


class BotState(StrEnum):
    STARTING = "STARTING"
    IDLE = "IDLE"
    WORKING = "WORKING"
    DEGRADED = "DEGRADED"
    SUSPECT = "SUSPECT"
    OFFLINE = "OFFLINE"


class BrainHealth(StrEnum):
    UNSPECIFIED = "UNSPECIFIED"
    STARTING = "STARTING"
    HEALTHY = "HEALTHY"
    DEGRADED = "DEGRADED"
    FAILING = "FAILING"


_BEST_FIRST = (
    BrainHealth.HEALTHY,
    BrainHealth.DEGRADED,
    BrainHealth.STARTING,
    BrainHealth.FAILING,
    BrainHealth.UNSPECIFIED,
)
_NOT_READY = frozenset({BrainHealth.STARTING, BrainHealth.UNSPECIFIED})


@dataclass(frozen=True, slots=True)
class BotStatus:
    """The condition of one bot. `workers` are ids, sorted, at most MAX_SHOWN_WORKERS of `worker_count`."""

    state: BotState = BotState.OFFLINE
    in_flight_count: int = 0
    workers: tuple[str, ...] = ()
    worker_count: int = 0
    since: datetime | None = None
    brain_health: BrainHealth = BrainHealth.UNSPECIFIED
    detail: str = "No worker serves it; its mail waits."
    report_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Serving:
    """One worker that holds a lease and serves the bot, with what it last said about the bot.

    `report_time` is None until the worker has said anything about it. `suspect` is about the worker.
    """

    worker: str
    suspect: bool
    in_flight_count: int = 0
    brain_health: BrainHealth = BrainHealth.UNSPECIFIED
    detail: str = ""
    report_time: datetime | None = None

    @property
    def ready(self) -> bool:
        """Whether the brain takes turns. A worker that reports about the bot and judges no brains counts as ready."""
        if self.brain_health is BrainHealth.UNSPECIFIED:
            return self.report_time is not None
        return self.brain_health is BrainHealth.HEALTHY


def derive(previous: BotStatus, servings: Sequence[Serving], now: datetime) -> BotStatus:
    """The status that follows from the workers which hold a lease for the bot.

    `since` moves only with the state. The time of the last report outlives the workers that made it.
    """
    state = _state(servings)
    reports = [serving.report_time for serving in servings if serving.report_time is not None]
    if previous.report_time is not None:
        reports.append(previous.report_time)
    status = BotStatus(
        state=state,
        in_flight_count=sum(serving.in_flight_count for serving in servings),
        workers=tuple(sorted(serving.worker for serving in servings)[:MAX_SHOWN_WORKERS]),
        worker_count=len(servings),
        since=now,
        brain_health=min((s.brain_health for s in servings), key=_BEST_FIRST.index, default=BrainHealth.UNSPECIFIED),
        detail=_detail(state, servings),
        report_time=max(reports, default=None),
    )
    return replace(status, since=previous.since) if previous.state is state and previous.since else status


def same_but_for_report_time(one: BotStatus, other: BotStatus) -> bool:
    """Whether a watcher need not hear of the difference: every heartbeat moves the time and changes nothing else."""
    return replace(one, report_time=None) == replace(other, report_time=None)


def _state(servings: Sequence[Serving]) -> BotState:
    if not servings:
        return BotState.OFFLINE
    alive = [serving for serving in servings if not serving.suspect]
    if not alive:
        return BotState.SUSPECT
    if any(serving.in_flight_count for serving in servings):
        return BotState.WORKING
    if any(serving.ready for serving in alive):
        return BotState.IDLE
    if all(serving.brain_health in _NOT_READY for serving in alive):
        return BotState.STARTING
    return BotState.DEGRADED


def _detail(state: BotState, servings: Sequence[Serving]) -> str:
    match state:
        case BotState.OFFLINE:
            return BotStatus().detail
        case BotState.SUSPECT:
            return "Every worker that serves it has missed a heartbeat."
        case BotState.IDLE:
            return ""
        case _:
            return next((serving.detail for serving in servings if serving.detail and not serving.ready), "")
