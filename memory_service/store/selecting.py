"""Filters in SQL. Conditions on metadata are not among them: `selection.meets` decides those, alike on both engines."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import ColumnElement, and_, exists, false, or_, true

from memory_service.domain.selection import MemoryFilter, Slice, TimeField, TimeRange
from memory_service.models import MEMORY, MEMORY_TAG
from memory_service.store.codec import micros

_TIMES: Mapping[TimeField, ColumnElement[int]] = {
    TimeField.EVENT_TIME: MEMORY.c.happen_time,
    TimeField.CREATE_TIME: MEMORY.c.create_time,
    TimeField.UPDATE_TIME: MEMORY.c.update_time,
    TimeField.USE_TIME: MEMORY.c.use_time,
    TimeField.EXPIRE_TIME: MEMORY.c.expire_time,
}


def unexpired(now: datetime) -> ColumnElement[bool]:
    return or_(MEMORY.c.expire_time.is_(None), MEMORY.c.expire_time > micros(now), MEMORY.c.pinned)


def conditions_of(selected: MemoryFilter, now: datetime, *, show_deleted: bool = False) -> list[ColumnElement[bool]]:
    """What a memory must fulfil; the namespace is not part of it."""
    columns = MEMORY.c
    conditions = [unexpired(now)]
    if not show_deleted:
        conditions.append(columns.delete_time.is_(None))
    if selected.kinds:
        conditions.append(columns.kind.in_(sorted(selected.kinds)))
    if selected.authors:
        conditions.append(columns.author.in_(sorted(selected.authors)))
    if selected.sessions:
        conditions.append(columns.session.in_(sorted(selected.sessions)))
    if selected.sources:
        conditions.append(columns.source.in_(sorted(selected.sources)))
    if selected.run_id:
        conditions.append(columns.run_id == selected.run_id)
    if selected.pinned is not None:
        conditions.append(columns.pinned.is_(selected.pinned))
    if selected.min_importance:
        conditions.append(columns.importance >= selected.min_importance)
    conditions.extend(_has_tag(MEMORY_TAG.c.tag == tag) for tag in sorted(selected.all_tags))
    if selected.any_tags:
        conditions.append(_has_tag(MEMORY_TAG.c.tag.in_(sorted(selected.any_tags))))
    for each in selected.time_ranges:
        conditions.extend(_within(each))
    if selected.slices is not None:
        conditions.append(or_(false(), *(_in_slice(each) for each in selected.slices)))
        conditions.append(columns.delete_time.is_(None))
    return conditions


def _in_slice(part: Slice) -> ColumnElement[bool]:
    conditions: list[ColumnElement[bool]] = [true()]
    if part.kinds:
        conditions.append(MEMORY.c.kind.in_(sorted(part.kinds)))
    if part.tags:
        conditions.append(_has_tag(MEMORY_TAG.c.tag.in_(sorted(part.tags))))
    if part.sessions:
        conditions.append(MEMORY.c.session.in_(sorted(part.sessions)))
    return and_(*conditions)


def _has_tag(matching: ColumnElement[bool]) -> ColumnElement[bool]:
    return exists().where(MEMORY_TAG.c.memory == MEMORY.c.pk, matching)


def _within(span: TimeRange) -> list[ColumnElement[bool]]:
    time = _TIMES[span.field]
    conditions: list[ColumnElement[bool]] = [time.is_not(None)]
    if span.start is not None:
        conditions.append(time >= micros(span.start))
    if span.end is not None:
        conditions.append(time < micros(span.end))
    return conditions
