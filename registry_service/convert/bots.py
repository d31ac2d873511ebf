"""Bots, both ways."""

from collections.abc import Mapping
from datetime import datetime
from typing import TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from chassis import resource_names
from chassis.errors import field_invalid
from mobot.registry.v1 import bot_pb2
from registry_service.convert import checks
from registry_service.convert.brains import from_proto_brain, to_proto_brain
from registry_service.domain.bot import (
    DEFAULT_CONCURRENCY,
    SYSTEM_LABEL_PREFIX,
    Bot,
    BotSettings,
    Capability,
    Lifecycle,
    MemorySettings,
)
from registry_service.domain.brain import BrainKind
from registry_service.domain.selection import BotFilter
from registry_service.domain.status import BotState, BotStatus, BrainHealth

E = TypeVar("E", BotState, BrainKind)

LIFECYCLES: Mapping[Lifecycle, bot_pb2.BotLifecycle.ValueType] = {
    each: bot_pb2.BotLifecycle.Value(f"BOT_LIFECYCLE_{each.value}") for each in Lifecycle
}
STATES: Mapping[BotState, bot_pb2.BotState.ValueType] = {
    each: bot_pb2.BotState.Value(f"BOT_STATE_{each.value}") for each in BotState
}
HEALTHS: Mapping[BrainHealth, bot_pb2.BrainHealth.ValueType] = {
    each: bot_pb2.BrainHealth.Value(f"BRAIN_HEALTH_{each.value}") for each in BrainHealth
}
_STATE_OF: Mapping[int, BotState] = {number: state for state, number in STATES.items()}
_KIND_OF: Mapping[int, BrainKind] = {bot_pb2.BrainKind.Value(f"BRAIN_KIND_{each.value}"): each for each in BrainKind}

_MAX_DISPLAY_NAME = 128
_MAX_FILTERED_BOTS = 1_000


def to_proto_bot(bot: Bot) -> bot_pb2.Bot:
    settings = bot.settings
    message = bot_pb2.Bot(
        name=bot.name,
        uid=bot.uid,
        display_name=settings.display_name,
        status=to_proto_status(bot.status),
        enabled=bot.enabled,
        suspended=bot.suspended,
        concurrency=settings.concurrency,
        brain=to_proto_brain(settings.brain),
        instructions=settings.instructions,
        lifecycle=LIFECYCLES[bot.lifecycle],
        labels=settings.labels,
        capabilities=[_to_proto_capability(each) for each in settings.capabilities],
        etag=bot.etag,
        description=settings.description,
        emoji=settings.emoji,
        avatar_uri=settings.avatar_uri,
        owner=settings.owner,
        tools=settings.tools,
        state_reason=bot.state_reason,
        resume_time=to_proto_time(bot.resume_time),
        create_time=to_proto_time(bot.create_time),
        update_time=to_proto_time(bot.update_time),
        delete_time=to_proto_time(bot.delete_time),
        purge_time=to_proto_time(bot.purge_time),
    )
    memory = settings.memory
    if memory is not None:
        message.memory.SetInParent()
        message.memory.MergeFrom(
            bot_pb2.MemorySettings(
                recall=memory.recall, recall_budget_tokens=memory.recall_budget_tokens, reflection=memory.reflection
            )
        )
    if settings.metadata is not None:
        message.metadata.SetInParent()
        message.metadata.update(settings.metadata)
    return message


def to_proto_status(status: BotStatus) -> bot_pb2.BotStatus:
    return bot_pb2.BotStatus(
        state=STATES[status.state],
        in_flight_count=status.in_flight_count,
        workers=[f"workers/{worker}" for worker in status.workers],
        worker_count=status.worker_count,
        since=to_proto_time(status.since),
        brain_health=HEALTHS[status.brain_health],
        detail=status.detail,
        report_time=to_proto_time(status.report_time),
    )


def to_proto_time(time: datetime | None) -> Timestamp | None:
    if time is None:
        return None
    timestamp = Timestamp()
    timestamp.FromDatetime(time)
    return timestamp


def from_proto_settings(
    field: str, bot: bot_pb2.Bot, *, bot_id: str, owner: str, system_labels: Mapping[str, str]
) -> BotSettings:
    """The settings in `bot`, with their defaults.

    Args:
        field: Where the bot lies in the request, such as "bot" or "bots[3]".
        owner: The owner when the bot names none.
        system_labels: Those that may stand among the bot's labels, and that it gets when it says nothing about them.
    """
    checks.required(f"{field}.brain", bot.HasField("brain"))
    checks.printable(f"{field}.display_name", bot.display_name, _MAX_DISPLAY_NAME)
    memory = None
    if bot.HasField("memory"):
        memory = _memory(f"{field}.memory", bot.memory)
    return BotSettings(
        display_name=bot.display_name or bot_id,
        brain=from_proto_brain(f"{field}.brain", bot.brain),
        concurrency=checks.between(f"{field}.concurrency", bot.concurrency or DEFAULT_CONCURRENCY, 1, 1_000),
        instructions=checks.text_bytes(f"{field}.instructions", bot.instructions, 65_536),
        labels=_labels(f"{field}.labels", bot.labels, system_labels),
        capabilities=_capabilities(f"{field}.capabilities", bot),
        description=checks.text(f"{field}.description", bot.description, 2_048),
        emoji=checks.text(f"{field}.emoji", bot.emoji, 16),
        avatar_uri=_avatar(f"{field}.avatar_uri", bot.avatar_uri),
        owner=_principal(f"{field}.owner", bot.owner) if bot.owner else owner,
        tools=checks.unique(f"{field}.tools", checks.texts(f"{field}.tools", bot.tools, 128, 64)),
        memory=memory,
        metadata=checks.struct(f"{field}.metadata", bot, "metadata"),
    )


def from_proto_filter(field: str, selected: bot_pb2.BotFilter) -> BotFilter:
    checks.at_most(f"{field}.bots", selected.bots, _MAX_FILTERED_BOTS)
    return BotFilter(
        labels=checks.labels(f"{field}.labels", selected.labels, count=16),
        states=frozenset(_known(f"{field}.states", _STATE_OF, state) for state in selected.states),
        brains=frozenset(_known(f"{field}.brains", _KIND_OF, brain) for brain in selected.brains),
        enabled=selected.enabled if selected.HasField("enabled") else None,
        bots=frozenset(
            resource_names.parse_bot(name, field=f"{field}.bots[{index}]") for index, name in enumerate(selected.bots)
        ),
        text=checks.text(f"{field}.text", selected.text, 256),
        capability=checks.text(f"{field}.capability", selected.capability, 64),
        owner=checks.text(f"{field}.owner", selected.owner, 512),
        show_deleted=selected.show_deleted,
    )


def _known(field: str, known: Mapping[int, E], number: int) -> E:
    value = known.get(number)
    if value is None:
        raise field_invalid(field, f"holds {number}, which names nothing to select")
    return value


def _labels(field: str, given: Mapping[str, str], system: Mapping[str, str]) -> dict[str, str]:
    labels = checks.labels(field, given)
    for key, value in labels.items():
        if key.startswith(SYSTEM_LABEL_PREFIX) and system.get(key) != value:
            raise field_invalid(f"{field}.{key}", f"keys that begin with {SYSTEM_LABEL_PREFIX} belong to the system")
    return {**labels, **system}


def _memory(field: str, memory: bot_pb2.MemorySettings) -> MemorySettings:
    budget = None
    if memory.HasField("recall_budget_tokens"):
        budget = checks.between(f"{field}.recall_budget_tokens", memory.recall_budget_tokens, 0, 100_000)
    return MemorySettings(
        recall=memory.recall if memory.HasField("recall") else None,
        recall_budget_tokens=budget,
        reflection=memory.reflection,
    )


def _capabilities(field: str, bot: bot_pb2.Bot) -> tuple[Capability, ...]:
    checks.at_most(field, bot.capabilities, 64)
    checks.unique(f"{field}.id", (each.id for each in bot.capabilities))
    return tuple(_capability(f"{field}[{index}]", each) for index, each in enumerate(bot.capabilities))


def _capability(field: str, capability: bot_pb2.Capability) -> Capability:
    return Capability(
        id=checks.capability_id(f"{field}.id", capability.id),
        display_name=checks.text(f"{field}.display_name", capability.display_name, 128),
        description=checks.text(f"{field}.description", capability.description, 2_048),
        tags=checks.texts(f"{field}.tags", capability.tags, 32, 64),
        examples=checks.texts(f"{field}.examples", capability.examples, 16, 512),
        input_modes=checks.texts(f"{field}.input_modes", capability.input_modes, 32, 256),
        output_modes=checks.texts(f"{field}.output_modes", capability.output_modes, 32, 256),
    )


def _to_proto_capability(capability: Capability) -> bot_pb2.Capability:
    return bot_pb2.Capability(
        id=capability.id,
        display_name=capability.display_name,
        description=capability.description,
        tags=capability.tags,
        examples=capability.examples,
        input_modes=capability.input_modes,
        output_modes=capability.output_modes,
    )


def _avatar(field: str, value: str) -> str:
    checks.text_bytes(field, value, 65_536)
    if value and not value.startswith(("https:", "data:image/")):
        raise field_invalid(field, "must begin with https: or data:image/")
    return value


def _principal(field: str, value: str) -> str:
    kind, slash, rest = checks.printable(field, value, 512).partition("/")
    if not (kind and slash and rest):
        raise field_invalid(field, "must be a principal such as operators/root or bots/main")
    return value
