"""The bot: its settings, its life from creation to purge, and the state changes that have rules."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from registry_service.domain.brain import Brain
from registry_service.domain.errors import BotDeleted, BotDisabled, BotNotDeleted, BotUidMismatch, EtagMismatch
from registry_service.domain.status import BotStatus

DEFAULT_CONCURRENCY = 10
SYSTEM_LABEL_PREFIX = "mobot."
SET_LABEL = "mobot.set"


class Lifecycle(StrEnum):
    ACTIVE = "ACTIVE"
    DRAINING = "DRAINING"
    DELETED = "DELETED"


@dataclass(frozen=True, slots=True)
class MemorySettings:
    recall: bool | None = None
    recall_budget_tokens: int | None = None
    reflection: bool = False


@dataclass(frozen=True, slots=True)
class Capability:
    id: str
    display_name: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    input_modes: tuple[str, ...] = ()
    output_modes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BotSettings:
    """What callers write. `metadata` is a JSON object the registry never reads; None when absent."""

    display_name: str
    brain: Brain
    concurrency: int = DEFAULT_CONCURRENCY
    instructions: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    capabilities: tuple[Capability, ...] = ()
    description: str = ""
    emoji: str = ""
    avatar_uri: str = ""
    owner: str = ""
    tools: tuple[str, ...] = ()
    memory: MemorySettings | None = None
    metadata: Mapping[str, Any] | None = None

    @property
    def set_name(self) -> str:
        """The declared set the bot belongs to; empty for none."""
        return self.labels.get(SET_LABEL, "")

    @property
    def system_labels(self) -> dict[str, str]:
        return {key: value for key, value in self.labels.items() if key.startswith(SYSTEM_LABEL_PREFIX)}


@dataclass(frozen=True, slots=True)
class Removal:
    """A deletion under way or done: when it was asked for, how long it drains, how long the tombstone stays."""

    ask_time: datetime
    drain_deadline: datetime
    retention_s: float


@dataclass(frozen=True, slots=True)
class Bot:
    """A bot as stored. `revision` is the number of the change that last wrote its settings; the etag comes from it."""

    id: str
    uid: str
    settings: BotSettings
    create_time: datetime
    update_time: datetime
    revision: int = 0
    enabled: bool = True
    suspended: bool = False
    state_reason: str = ""
    resume_time: datetime | None = None
    lifecycle: Lifecycle = Lifecycle.ACTIVE
    delete_time: datetime | None = None
    purge_time: datetime | None = None
    removal: Removal | None = None
    status: BotStatus = field(default_factory=BotStatus)

    @property
    def name(self) -> str:
        return f"bots/{self.id}"

    @property
    def etag(self) -> str:
        return f"W{self.revision}"


@dataclass(frozen=True, slots=True)
class NewBot:
    """A bot to create: an id, settings whose owner is filled in, and whether it may be given work."""

    id: str
    settings: BotSettings
    enabled: bool = True


def create(draft: NewBot, *, uid: str, now: datetime) -> Bot:
    return Bot(
        id=draft.id,
        uid=uid,
        settings=draft.settings,
        create_time=now,
        update_time=now,
        enabled=draft.enabled,
        status=BotStatus(since=now),
    )


def check_etag(bot: Bot, etag: str) -> None:
    """Raises ETAG_MISMATCH unless `etag` is empty or current."""
    if etag and etag != bot.etag:
        raise EtagMismatch(bot.name, etag)


def check_live(bot: Bot) -> None:
    """Raises BOT_DELETED for a bot that is draining or a tombstone."""
    if bot.lifecycle is not Lifecycle.ACTIVE:
        raise BotDeleted(bot.id, bot.lifecycle.value)


def update(bot: Bot, settings: BotSettings, now: datetime) -> Bot:
    """The bot with other settings; the very same bot when they are what it has."""
    check_live(bot)
    return bot if settings == bot.settings else replace(bot, settings=settings, update_time=now)


def enable(bot: Bot, now: datetime) -> Bot:
    check_live(bot)
    if bot.enabled and not bot.suspended:
        return bot
    return replace(bot, enabled=True, suspended=False, resume_time=None, update_time=now)


def disable(bot: Bot, reason: str, now: datetime) -> Bot:
    check_live(bot)
    if not bot.enabled and bot.state_reason == reason:
        return bot
    return replace(bot, enabled=False, suspended=False, resume_time=None, state_reason=reason, update_time=now)


def suspend(bot: Bot, *, until: datetime | None, reason: str, now: datetime) -> Bot:
    check_live(bot)
    if not bot.enabled:
        raise BotDisabled(bot.id)
    if bot.suspended and bot.resume_time == until and bot.state_reason == reason:
        return bot
    return replace(bot, suspended=True, resume_time=until, state_reason=reason, update_time=now)


def resume_if_due(bot: Bot, now: datetime) -> Bot:
    """Ends a suspension whose time has come."""
    if bot.suspended and bot.resume_time is not None and bot.resume_time <= now:
        return replace(bot, suspended=False, resume_time=None, update_time=now)
    return bot


def check_uid(bot: Bot, expected_uid: str) -> None:
    if expected_uid and expected_uid != bot.uid:
        raise BotUidMismatch(bot.id, expected_uid, bot.uid)


def begin_removal(bot: Bot, *, drain: timedelta, retention: timedelta, now: datetime) -> Bot:
    """The bot, draining. Asking again replaces the times; a tombstone stays as it is."""
    if bot.lifecycle is Lifecycle.DELETED:
        return bot
    removal = Removal(now, now + drain, retention.total_seconds())
    return replace(bot, lifecycle=Lifecycle.DRAINING, removal=removal, update_time=now)


def bury(bot: Bot, now: datetime) -> Bot:
    """The tombstone of a draining bot."""
    retention = timedelta(seconds=bot.removal.retention_s if bot.removal else 0)
    return replace(
        bot, lifecycle=Lifecycle.DELETED, delete_time=now, purge_time=now + retention, update_time=now, removal=None
    )


def undelete(bot: Bot, now: datetime) -> Bot:
    if bot.lifecycle is Lifecycle.ACTIVE:
        raise BotNotDeleted(bot.id)
    return replace(bot, lifecycle=Lifecycle.ACTIVE, removal=None, delete_time=None, purge_time=None, update_time=now)
