"""Declared sets of bots: what has to be done so that the stored bots equal a declaration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from registry_service.domain.bot import (
    SET_LABEL,
    Bot,
    Lifecycle,
    NewBot,
    begin_removal,
    check_etag,
    create,
    undelete,
)
from registry_service.domain.errors import BotAlreadyExists

PRUNE_DRAIN = timedelta(seconds=60)
PRUNE_RETENTION = timedelta(days=30)


class Action(StrEnum):
    UNCHANGED = "UNCHANGED"
    CREATE = "CREATE"
    UPDATE = "UPDATE"
    UNDELETE = "UNDELETE"
    DELETE = "DELETE"


@dataclass(frozen=True, slots=True)
class DeclaredBot:
    """A bot as it shall be. Its settings' owner is empty where the declaration leaves it out."""

    bot: NewBot
    etag: str = ""


@dataclass(frozen=True, slots=True)
class Declaration:
    """`owner` is who owns the bots that are created without one."""

    bots: tuple[DeclaredBot, ...]
    set_name: str
    prune: bool
    owner: str


@dataclass(frozen=True, slots=True)
class Step:
    """What is done with one bot. `before` is None for CREATE; `after` is a draining bot for DELETE."""

    action: Action
    before: Bot | None
    after: Bot


@dataclass(frozen=True, slots=True)
class Applied:
    """`position` is the log's after the change, or without one its present one."""

    steps: tuple[Step, ...]
    position: int


def plan(declaration: Declaration, stored: Mapping[str, Bot], uids: Mapping[str, str], now: datetime) -> Sequence[Step]:
    """The steps, sorted by name.

    Args:
        stored: By id, at least the declared bots that exist and every bot of the set.
        uids: An unused uid for each declared bot.

    Raises:
        EtagMismatch, BotAlreadyExists: as ApplyBots documents; nothing must be done then.
    """
    steps = [_step(each, stored.get(each.bot.id), declaration, uids[each.bot.id], now) for each in declaration.bots]
    if declaration.prune:
        kept = {each.bot.id for each in declaration.bots}
        steps += [
            Step(Action.DELETE, bot, begin_removal(bot, drain=PRUNE_DRAIN, retention=PRUNE_RETENTION, now=now))
            for bot in stored.values()
            if bot.settings.set_name == declaration.set_name
            and bot.id not in kept
            and bot.lifecycle is Lifecycle.ACTIVE
        ]
    return sorted(steps, key=lambda step: step.after.id)


def _step(declared: DeclaredBot, before: Bot | None, declaration: Declaration, uid: str, now: datetime) -> Step:
    wanted = declared.bot
    labels = dict(wanted.settings.labels)
    if declaration.set_name:
        labels[SET_LABEL] = declaration.set_name
    inherited = before.settings.owner if before is not None else declaration.owner
    settings = replace(wanted.settings, labels=labels, owner=wanted.settings.owner or inherited)
    if before is None:
        return Step(Action.CREATE, None, create(replace(wanted, settings=settings), uid=uid, now=now))
    check_etag(before, declared.etag)
    if before.settings.set_name and before.settings.set_name != declaration.set_name:
        raise BotAlreadyExists(before.id, before.lifecycle.value, before.settings.set_name)
    revived = before if before.lifecycle is Lifecycle.ACTIVE else undelete(before, now)
    after = replace(revived, settings=settings, enabled=wanted.enabled)
    if after == before:
        return Step(Action.UNCHANGED, before, before)
    action = Action.UPDATE if revived is before else Action.UNDELETE
    return Step(action, before, replace(after, update_time=now))
