"""Which sessions: what the filters of lists and searches ask of a row."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Column,
    ColumnElement,
    Connection,
    Text,
    bindparam,
    exists,
    literal_column,
)

from session_service.domain.label import label_key
from session_service.domain.session import SessionState
from session_service.models import SESSION, SESSION_TAG
from session_service.store.rows import fold
from session_service.store.sql import among, escape_like, listed, unindexed

_c = SESSION.c
# Spelt out, so that the engines see which partial index fits.
_NONE: ColumnElement[str] = literal_column("''")


class SessionFilter(NamedTuple):
    """Which sessions; set fields are combined by "and". `bots` None means all of them."""

    bots: Sequence[str] | None = None
    states: Sequence[SessionState] = (SessionState.ACTIVE,)
    group: str = ""
    tags: Sequence[str] = ()
    persistent: bool | None = None
    running: bool | None = None
    parent: str = ""
    text: str = ""
    label: str = ""
    active_since: int | None = None
    exclude_ids: Sequence[str] = ()


def conditions_of(conn: Connection, which: SessionFilter, *, lead: str = "") -> list[ColumnElement[bool]]:
    """`lead` is the filter that an index is read by; on SQLite, which knows no numbers, the others hide theirs."""
    values = values_of(conn, which)

    def plain(column: Column[Any], name: str) -> ColumnElement[Any]:
        return unindexed(conn, column) if lead and lead != name else column

    def given(name: str, kind: type[Text | BigInteger] = Text) -> BindParameter[Any]:
        return bindparam(name, values[name], type_=kind)

    states: list[ColumnElement[int]] = [literal_column(str(int(state))) for state in which.states]
    state = plain(_c.state, "state" if lead in ("pk", "name") else lead)
    conditions: list[ColumnElement[bool]] = [state == states[0] if len(states) == 1 else state.in_(states)]
    if which.bots is not None:
        bot = plain(_c.bot, "bot")
        one = len(which.bots) == 1
        conditions.append(bot == given("of_bot") if one else among(conn, bot, which.bots, "of_bots"))
    if which.group:
        conditions.append(plain(_c.group_name, "group") == given("of_group"))
        conditions.append(_c.group_name != _NONE)
    for number in range(len(which.tags)):
        tagged = exists().where(SESSION_TAG.c.session == _c.pk, SESSION_TAG.c.tag == given(f"of_tag_{number}"))
        conditions.append(tagged.correlate(SESSION))
    if which.persistent is not None:
        conditions.append(_c.persistent == literal_column(str(int(which.persistent))))
    if which.running is not None:
        conditions.append(_c.active_runs != _NONE if which.running else _c.active_runs == _NONE)
    if which.parent:
        conditions.append(plain(_c.parent, "parent") == given("of_parent"))
        conditions.append(_c.parent != _NONE)
    if which.text:
        conditions.append(_c.search_text.like(given("of_text"), escape="\\"))
    if which.label:
        conditions.append(plain(_c.label_key, "label") == given("of_label"))
    if which.active_since is not None:
        conditions.append(_c.last_activity_time >= given("of_since", BigInteger))
    if which.exclude_ids:
        conditions.append(~among(conn, _c.session_id, which.exclude_ids, "of_excluded"))
    return conditions


def is_plain(which: SessionFilter) -> bool:
    """Whether all of some bots' sessions are asked for, but for a few by name."""
    return not (
        which.group
        or which.tags
        or which.persistent is not None
        or which.running is not None
        or which.parent
        or which.text
        or which.label
        or which.active_since is not None
    )


def values_of(conn: Connection, which: SessionFilter) -> dict[str, Any]:
    """The parameters of `conditions_of`."""
    values: dict[str, Any] = {
        "of_group": which.group,
        "of_parent": which.parent,
        "of_since": which.active_since,
    }
    if which.bots is not None:
        values["of_bots"] = listed(conn, which.bots)
        values["of_bot"] = which.bots[0] if which.bots else ""
    if which.text:
        values["of_text"] = f"%{escape_like(fold(which.text))}%"
    if which.label:
        values["of_label"] = label_key(which.label)
    if which.exclude_ids:
        values["of_excluded"] = listed(conn, which.exclude_ids)
    for number, tag in enumerate(which.tags):
        values[f"of_tag_{number}"] = tag
    return values


def shape_of(which: SessionFilter) -> tuple[object, ...]:
    """Filters of one shape have the same conditions, for other values."""
    return (
        None if which.bots is None else len(which.bots) == 1,
        tuple(which.states),
        bool(which.group),
        len(which.tags),
        which.persistent,
        which.running,
        bool(which.parent),
        bool(which.text),
        bool(which.label),
        which.active_since is None,
        bool(which.exclude_ids),
    )
