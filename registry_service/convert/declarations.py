"""Declared sets of bots, both ways: what shall be, and what differs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import orjson
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from chassis import resource_names
from chassis.errors import field_invalid
from mobot.registry.v1 import bot_pb2, registry_service_pb2
from registry_service.convert import checks
from registry_service.convert.bots import from_proto_settings, to_proto_bot
from registry_service.convert.masks import WRITABLE, is_plain_message
from registry_service.domain.bot import SET_LABEL, NewBot
from registry_service.domain.declaration import Action, Declaration, DeclaredBot, Step

_MAX_BOTS = 1_000
_COMPARED = ("enabled", *WRITABLE)
_ACTIONS: Mapping[Action, registry_service_pb2.ApplyAction.ValueType] = {
    each: registry_service_pb2.ApplyAction.Value(f"APPLY_ACTION_{each.value}") for each in Action
}
_NOT_YET_KNOWN = ("uid", "status", "etag", "create_time", "update_time")


def from_proto_declaration(request: registry_service_pb2.ApplyBotsRequest, *, owner: str) -> Declaration:
    """`owner` is who owns the bots that are created without one."""
    checks.at_most("bots", request.bots, _MAX_BOTS)
    set_name = checks.set_name("set_name", request.set_name)
    if request.prune and not set_name:
        raise field_invalid("prune", "needs a set_name")
    declared = tuple(_declared(f"bots[{index}]", bot, set_name) for index, bot in enumerate(request.bots))
    checks.unique("bots", (each.bot.id for each in declared))
    return Declaration(declared, set_name, request.prune, owner)


def to_proto_diff(step: Step, *, planned: bool) -> registry_service_pb2.BotDiff:
    """With `planned`, the result is without the output-only values that nobody knows yet."""
    diff = registry_service_pb2.BotDiff(bot=step.after.name, action=_ACTIONS[step.action])
    if step.action is Action.DELETE:
        return diff
    after = to_proto_bot(step.after)
    if step.before is not None and step.action is not Action.UNCHANGED:
        diff.fields.extend(sorted(_differences(to_proto_bot(step.before), after), key=lambda field: field.path))
    if planned and step.before is None:
        for name in _NOT_YET_KNOWN:
            after.ClearField(name)  # type: ignore[arg-type]  # its stub wants literals
    diff.result.CopyFrom(after)
    return diff


def _declared(field: str, bot: bot_pb2.Bot, set_name: str) -> DeclaredBot:
    bot_id = resource_names.parse_bot(bot.name, field=f"{field}.name")
    system = {SET_LABEL: set_name} if set_name else {}
    settings = from_proto_settings(field, bot, bot_id=bot_id, owner="", system_labels=system)
    return DeclaredBot(NewBot(bot_id, settings, bot.enabled if bot.HasField("enabled") else True), bot.etag)


def _differences(before: bot_pb2.Bot, after: bot_pb2.Bot) -> Iterable[registry_service_pb2.FieldDiff]:
    for name in _COMPARED:
        yield from _compare(name, before, after, before.DESCRIPTOR.fields_by_name[name])


def _compare(
    path: str, before: Message, after: Message, field: FieldDescriptor
) -> Iterable[registry_service_pb2.FieldDiff]:
    old, new = _json(before, field), _json(after, field)
    if old == new:
        return
    if is_plain_message(field) and old and new:
        one: Message = getattr(before, field.name)
        other: Message = getattr(after, field.name)
        # Brains of two kinds have no fields in common, so they differ as wholes.
        if field.name != "brain" or one.WhichOneof("settings") == other.WhichOneof("settings"):
            for inner in cast("Sequence[FieldDescriptor]", one.DESCRIPTOR.fields):
                yield from _compare(f"{path}.{inner.name}", one, other, inner)
            return
    yield registry_service_pb2.FieldDiff(path=path, old_value_json=old, new_value_json=new)


def _json(message: Message, field: FieldDescriptor) -> str:
    """The field's value as ProtoJSON; empty when it is not set."""
    bare = type(message)()
    if field.is_repeated:
        getattr(bare, field.name).MergeFrom(getattr(message, field.name))
    elif field.has_presence and not message.HasField(field.name):
        return ""
    elif field.message_type is not None:
        getattr(bare, field.name).SetInParent()
        getattr(bare, field.name).CopyFrom(getattr(message, field.name))
    else:
        setattr(bare, field.name, getattr(message, field.name))
    document = json_format.MessageToDict(bare, preserving_proto_field_name=True)
    return orjson.dumps(document[field.name], option=orjson.OPT_SORT_KEYS).decode() if document else ""
