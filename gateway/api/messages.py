"""JSON to a request of a service, and its answer to JSON: the contract's own JSON form, field by field.

A field that the contract does not have is an error here: a filter with a slip in it would select everything else.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import orjson
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from chassis import errors

_MAX_DEPTH = 40


def fill(request: Message, given: Mapping[str, Any]) -> None:
    """Puts JSON into the request, over what is there.

    Raises:
        InvalidArgument: it does not have the request's shape.
    """
    try:
        json_format.ParseDict(
            _lengthened(given, cast(Descriptor, request.DESCRIPTOR)), request, max_recursion_depth=_MAX_DEPTH
        )
    except (json_format.ParseError, ValueError, TypeError, RecursionError) as error:
        raise errors.field_invalid("request", _said(error)) from error


def parsed(body: bytes) -> Mapping[str, Any]:
    """A JSON object; nothing at all is an empty one.

    Raises:
        InvalidArgument: it is something else.
    """
    if not body.strip():
        return {}
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise errors.field_invalid("body", f"must be JSON: {error}") from error
    if not isinstance(value, dict):
        raise errors.field_invalid("body", "must be a JSON object")
    return value


def nested(path: str, value: object) -> dict[str, Any]:
    """ "memory.name", x -> {"memory": {"name": x}}."""
    for name in reversed(path.split(".")):
        value = {name: value}
    assert isinstance(value, dict)
    return value


def merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Both; objects are joined, and for the rest the second counts."""
    both = dict(first)
    for name, value in second.items():
        known = both.get(name)
        both[name] = merged(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return both


def queried(request: Descriptor, pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Parameters of a query, "filter.kinds=FACT", as JSON; a name that comes again makes a list.

    Raises:
        InvalidArgument: the request has no such field.
    """
    found: dict[str, Any] = {}
    values: dict[str, list[str]] = {}
    for path, value in pairs:
        values.setdefault(path, []).append(value)
    for path, texts in values.items():
        field = _field(request, path)
        typed = [_typed(field, text) for text in texts]
        found = merged(found, nested(path, typed if field.is_repeated else typed[-1]))
    return found


def answer(message: Message) -> dict[str, Any]:
    """The answer as JSON: names in camelCase, 64-bit numbers as strings, times as RFC 3339."""
    value: dict[str, Any] = json_format.MessageToDict(message)
    return value


def _lengthened(given: Mapping[str, Any], message: Descriptor) -> dict[str, Any]:
    """`given` with the whole names of enum values, of which callers may leave the prefix out."""
    whole: dict[str, Any] = {}
    for name, value in given.items():
        field = message.fields_by_camelcase_name.get(name) or message.fields_by_name.get(name)
        several = field is not None and field.is_repeated and isinstance(value, list)
        whole[name] = value if field is None else [_whole(field, v) for v in value] if several else _whole(field, value)
    return whole


def _whole(field: FieldDescriptor, value: Any) -> Any:  # noqa: ANN401 - JSON
    if field.enum_type is not None and isinstance(value, str):
        return _enum_name(field, value)
    inside = field.message_type
    if inside is not None and isinstance(value, dict) and not inside.full_name.startswith("google."):
        return _lengthened(value, inside)
    return value


def _field(request: Descriptor, path: str) -> FieldDescriptor:
    at: Descriptor | None = request
    field: FieldDescriptor | None = None
    for name in path.split("."):
        field = None if at is None else at.fields_by_camelcase_name.get(name) or at.fields_by_name.get(name)
        if field is None:
            raise errors.field_invalid(path[:200], "there is no such parameter")
        at = field.message_type
    assert field is not None
    return field


def _typed(field: FieldDescriptor, text: str) -> Any:  # noqa: ANN401 - JSON
    if field.type == FieldDescriptor.TYPE_BOOL:
        if text.lower() not in ("true", "false", "1", "0", ""):
            raise errors.field_invalid(field.name, "must be true or false")
        return text.lower() not in ("false", "0")
    return text


def _enum_name(field: FieldDescriptor, text: str) -> str:
    """The value's whole name; "fact" and "FACT" stand for MEMORY_KIND_FACT."""
    assert field.enum_type is not None
    names = field.enum_type.values_by_name
    prefix = field.enum_type.values[0].name.removesuffix("UNSPECIFIED")
    return next((name for name in (text, prefix + text.upper()) if name in names), text)


def _said(error: Exception) -> str:
    return str(error).replace("\n", " ")[:500] or type(error).__name__
