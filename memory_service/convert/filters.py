"""Filters and orders of memories."""

import math
import re

from google.protobuf import struct_pb2

from chassis import resource_names
from memory_service.convert import checks
from memory_service.domain.errors import FilterInvalid
from memory_service.domain.memory import Kind, Source
from memory_service.domain.selection import Condition, MemoryFilter, Operator, Scalar, TimeField, TimeRange
from memory_service.store.lists import ORDERS
from mobot.memory.v1 import memory_pb2

_PATH_KEY = re.compile(r"[\w-]{1,64}")
_MAX_PATH_KEYS = 8
_MAX_ALTERNATIVES = 100
_WITHOUT_VALUE = (Operator.EXISTS, Operator.NOT_EXISTS)
_ORDERED = (Operator.LESS, Operator.LESS_OR_EQUAL, Operator.GREATER, Operator.GREATER_OR_EQUAL)


def from_proto_filter(selected: memory_pb2.MemoryFilter) -> MemoryFilter:
    checks.at_most("filter.kinds", selected.kinds, 100)
    checks.at_most("filter.sources", selected.sources, 100)
    checks.at_most("filter.sessions", selected.sessions, 100)
    checks.at_most("filter.time_ranges", selected.time_ranges, 8)
    checks.at_most("filter.conditions", selected.conditions, 16)
    return MemoryFilter(
        kinds=frozenset(_kind(f"filter.kinds[{index}]", number) for index, number in enumerate(selected.kinds)),
        all_tags=frozenset(checks.texts("filter.all_tags", selected.all_tags, 32, 64)),
        any_tags=frozenset(checks.texts("filter.any_tags", selected.any_tags, 32, 64)),
        authors=frozenset(checks.texts("filter.authors", selected.authors, 32, 128)),
        sessions=frozenset(
            resource_names.parse_session(name, field=f"filter.sessions[{index}]").name
            for index, name in enumerate(selected.sessions)
        ),
        time_ranges=tuple(
            _time_range(f"filter.time_ranges[{index}]", each) for index, each in enumerate(selected.time_ranges)
        ),
        conditions=tuple(
            _condition(f"filter.conditions[{index}]", each) for index, each in enumerate(selected.conditions)
        ),
        pinned=selected.pinned if selected.HasField("pinned") else None,
        min_importance=checks.between("filter.min_importance", selected.min_importance, 0.0, 1.0),
        sources=frozenset(_source(f"filter.sources[{index}]", number) for index, number in enumerate(selected.sources)),
        run_id=checks.text("filter.run_id", selected.run_id, 128),
    )


def from_proto_order(order_by: str) -> tuple[str, bool]:
    """The field to order by, and whether backwards."""
    field, _, direction = (order_by or "create_time desc").partition(" ")
    if field not in ORDERS or direction not in ("", "desc"):
        rule = f"must be one of {', '.join(ORDERS)}, with ' desc' for the reverse"
        raise FilterInvalid("order_by", rule, ascii(order_by[:80]))
    return field, direction == "desc"


def _kind(field: str, number: int) -> Kind:
    if number not in tuple(Kind):
        raise FilterInvalid(field, "must be a kind that memories can have", str(number))
    return Kind(number)


def _source(field: str, number: int) -> Source:
    if number not in tuple(Source):
        raise FilterInvalid(field, "must be a source that memories can have", str(number))
    return Source(number)


def _time_range(field: str, span: memory_pb2.TimeRange) -> TimeRange:
    number = span.field or TimeField.EVENT_TIME
    if number not in tuple(TimeField):
        raise FilterInvalid(f"{field}.field", "must be a known time", str(number))
    start = checks.time(f"{field}.start_time", span, "start_time")
    end = checks.time(f"{field}.end_time", span, "end_time")
    if start is not None and end is not None and end <= start:
        raise FilterInvalid(f"{field}.end_time", "must be after start_time", end.isoformat())
    return TimeRange(TimeField(number), start, end)


def _condition(field: str, condition: memory_pb2.MetadataCondition) -> Condition:
    keys = tuple(condition.path.split("."))
    if len(keys) > _MAX_PATH_KEYS or not all(_PATH_KEY.fullmatch(key) for key in keys):
        rule = "must be at most 8 keys joined by dots, each 1 to 64 letters, digits, '_' and '-'"
        raise FilterInvalid(f"{field}.path", rule, ascii(condition.path[:80]))
    number = int(condition.operator)
    if number not in tuple(Operator):
        raise FilterInvalid(f"{field}.operator", "must be a known operator", str(number))
    operator = Operator(number)
    return Condition(keys, operator, _values(f"{field}.value", condition, operator))


def _values(field: str, condition: memory_pb2.MetadataCondition, operator: Operator) -> tuple[Scalar, ...]:
    given = condition.value
    held = given.WhichOneof("kind") or "nothing"
    if operator in _WITHOUT_VALUE:
        if condition.HasField("value"):
            raise FilterInvalid(field, f"must be absent for {operator.name}", held)
        return ()
    if operator is Operator.IN:
        listed = given.list_value.values
        if held != "list_value" or not 1 <= len(listed) <= _MAX_ALTERNATIVES:
            raise FilterInvalid(field, f"must be a list of 1 to {_MAX_ALTERNATIVES} values for IN", held)
        return tuple(_scalar(f"{field}[{index}]", each) for index, each in enumerate(listed))
    value = _scalar(field, given)
    if operator in _ORDERED and isinstance(value, bool):
        raise FilterInvalid(field, f"must be a string or a number for {operator.name}", held)
    return (value,)


def _scalar(field: str, value: struct_pb2.Value) -> Scalar:
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "number_value" if math.isfinite(value.number_value):
            return value.number_value
        case other:
            raise FilterInvalid(field, "must be a string, a finite number or a boolean", other or "nothing")
