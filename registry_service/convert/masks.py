"""Partial updates: which paths of a bot an update may name, and a bot with those paths taken from another."""

from collections.abc import Sequence

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from chassis.errors import field_invalid
from mobot.registry.v1 import bot_pb2

WRITABLE = (
    "display_name",
    "concurrency",
    "brain",
    "instructions",
    "labels",
    "capabilities",
    "description",
    "emoji",
    "avatar_uri",
    "owner",
    "tools",
    "memory",
    "metadata",
)


def writable_paths(bot: bot_pb2.Bot, mask: FieldMask | None) -> Sequence[str]:
    """The paths to change: the mask's, or without one every populated field. Output-only ones are left out.

    Raises:
        InvalidArgument: FIELD_INVALID; the mask holds a path that is not a field.
    """
    if mask is None:
        paths = [field.name for field, _ in bot.ListFields()]
    elif list(mask.paths) == ["*"]:
        paths = list(WRITABLE)
    else:
        paths = list(mask.paths)
        for path in paths:
            _check(path)
    return [path for path in paths if path.partition(".")[0] in WRITABLE]


def merged(stored: bot_pb2.Bot, given: bot_pb2.Bot, paths: Sequence[str]) -> bot_pb2.Bot:
    """`stored` with each of `paths` as in `given`; a path that `given` leaves out is cleared."""
    result = bot_pb2.Bot()
    result.CopyFrom(stored)
    for path in paths:
        _copy(result, given, path.split("."))
    return result


def _check(path: str) -> None:
    descriptor: Descriptor | None = bot_pb2.Bot.DESCRIPTOR
    for name in path.split("."):
        field = descriptor.fields_by_name.get(name) if descriptor is not None else None
        if field is None:
            raise field_invalid("update_mask", f"holds {path[:200]!a}, which is not a field", path=ascii(path[:200]))
        descriptor = field.message_type if is_plain_message(field) else None


def is_plain_message(field: FieldDescriptor) -> bool:
    """Whether the field is a single message of ours, so that paths lead into it."""
    kind = field.message_type
    return kind is not None and not field.is_repeated and kind.file.package == bot_pb2.DESCRIPTOR.package


def _copy(target: Message, source: Message, names: list[str]) -> None:
    name, *rest = names
    field = target.DESCRIPTOR.fields_by_name[name]
    if rest:
        if source.HasField(name) or target.HasField(name):
            getattr(target, name).SetInParent()
            _copy(getattr(target, name), getattr(source, name), rest)
        return
    target.ClearField(name)
    if field.is_repeated:
        getattr(target, name).MergeFrom(getattr(source, name))
    elif field.message_type is not None:
        if source.HasField(name):
            getattr(target, name).SetInParent()
            getattr(target, name).CopyFrom(getattr(source, name))
    elif not field.has_presence or source.HasField(name):
        setattr(target, name, getattr(source, name))
