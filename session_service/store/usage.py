"""What sessions consumed, by day: the sums that are kept, and what the log has beyond them."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, distinct, func, select

from session_service.domain.derived import Derived
from session_service.domain.event import StoredEvent
from session_service.domain.usage import NOTHING, Tally
from session_service.models import SESSION, USAGE_DAY
from session_service.store import deriving
from session_service.store.log import get_session, read_log, read_session_log
from session_service.store.sql import among

Derive = Callable[[StoredEvent], Derived]

# Events beyond the sums that a summary looks at: those of a moment, unless the log has just been filled by an import.
_MAX_TAIL = 20_000


class Days(NamedTuple):
    """From `first` (inclusive) to `end` (exclusive), in days since 1970; None is no bound."""

    first: int | None
    end: int | None

    def hold(self, day: int) -> bool:
        return (self.first is None or day >= self.first) and (self.end is None or day < self.end)


class UsageReport(NamedTuple):
    """`days` in order, only those on which anything was consumed."""

    days: Sequence[tuple[int, Tally]]
    total: Tally
    session_count: int


def session_usage(conn: Connection, name: str, days: Days, derive: Derive) -> UsageReport:
    """Exact, also for what was committed a moment ago. Raises SessionNotFound."""
    key = get_session(conn, name).head.pk
    rows = conn.execute(_sums(days).where(USAGE_DAY.c.session == key).group_by(USAGE_DAY.c.day)).all()
    sums = {int(row[0]): deriving.usage_of(row[1:]) for row in rows}
    at = deriving.progress(conn).position
    while True:
        found = read_session_log(conn, key, at, limit=1_000)
        _add(sums, days, map(derive, found.events))
        if not found.events:
            return _report(sums, 1)
        at = found.events[-1].position


def usage_summary(conn: Connection, bots: Sequence[str] | None, days: Days, derive: Derive) -> UsageReport:
    """Of all sessions of these bots (None: of all); deleted ones count until they are purged."""
    statement = _sums(days)
    counted = select(func.count(distinct(USAGE_DAY.c.session)))
    if bots is not None:
        chosen = select(SESSION.c.pk).where(among(conn, SESSION.c.bot, bots))
        statement = statement.where(USAGE_DAY.c.session.in_(chosen))
        counted = counted.where(USAGE_DAY.c.session.in_(chosen))
    counted = counted.where(*_within(days))
    sums = {int(row[0]): deriving.usage_of(row[1:]) for row in conn.execute(statement.group_by(USAGE_DAY.c.day))}
    at, looked_at = deriving.progress(conn).position, 0
    fresh: set[int] = set()
    while looked_at < _MAX_TAIL:
        found = read_log(conn, at, limit=1_000, bots=bots)
        looked_at += found.through - at
        if found.through == at:
            break
        derived = [derive(event) for event in found.events]
        fresh.update(each.session for each in derived if each.tally is not None and days.hold(each.day))
        _add(sums, days, derived)
        at = found.through
    known = set[int]()
    if fresh:
        of_these = among(conn, USAGE_DAY.c.session, list(fresh))
        known = set(conn.execute(select(USAGE_DAY.c.session).distinct().where(of_these, *_within(days))).scalars())
    return _report(sums, int(conn.execute(counted).scalar_one()) + len(fresh - known))


def _sums(days: Days) -> Select[Any]:
    columns = [func.sum(column) for column in deriving.SUM_COLUMNS]
    return select(USAGE_DAY.c.day, *columns).where(*_within(days)).order_by(USAGE_DAY.c.day)


def _within(days: Days) -> list[ColumnElement[bool]]:
    bounds: list[ColumnElement[bool]] = []
    if days.first is not None:
        bounds.append(USAGE_DAY.c.day >= days.first)
    if days.end is not None:
        bounds.append(USAGE_DAY.c.day < days.end)
    return bounds


def _add(sums: dict[int, Tally], days: Days, derived: Iterable[Derived]) -> None:
    for each in derived:
        if each.tally is not None and days.hold(each.day):
            sums[each.day] = sums.get(each.day, NOTHING).plus(each.tally)


def _report(sums: dict[int, Tally], session_count: int) -> UsageReport:
    total = NOTHING
    for tally in sums.values():
        total = total.plus(tally)
    return UsageReport(sorted(sums.items()), total, session_count)
