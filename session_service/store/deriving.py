"""Writing what is made from the log: the index of words, which has one form on each engine (FTS5 on SQLite, a tsvector
on PostgreSQL), and the usage by day. Both move on with their progress in one transaction, so nothing is counted twice.

Both indexes are given words that are ready, and carry session and bot as words of their own, so that a narrow search
reads the postings of what it is about only.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Connection, Text, bindparam, delete, select, text, update

from chassis import direct_sql
from session_service.domain.derived import VERSION, Derived, Progress
from session_service.domain.session import Usage
from session_service.domain.usage import NOTHING, Tally
from session_service.models import EVENT, LOG_FOLLOWER, LOG_HEAD, USAGE_DAY
from session_service.store.sql import among

_MAX_POSITION = 16_383  # of a word in a tsvector
_MAX_PLACES = 200  # of one word in a tsvector

_SOURCE_SQLITE = (
    "INSERT INTO event_fts_source (position, session, scope, words) VALUES (:position, :session, :scope, :words)"
)
_INSERT_SQLITE = text("INSERT INTO event_fts (rowid, scope, words) VALUES (:position, :scope, :words)")
_INSERT_SOURCE = text(_SOURCE_SQLITE)
_INSERT_POSTGRESQL = text(
    "INSERT INTO event_fts (position, session, words) "
    "VALUES (:position, :session, CAST(CAST(:words AS TEXT) AS TSVECTOR))"
).bindparams(
    bindparam("position", type_=BigInteger), bindparam("session", type_=BigInteger), bindparam("words", type_=Text)
)
_FORGET_SQLITE = (
    text(
        "INSERT INTO event_fts (event_fts, rowid, scope, words) "
        "SELECT 'delete', position, scope, words FROM event_fts_source WHERE session = :session"
    ),
    text("DELETE FROM event_fts_source WHERE session = :session"),
)
_FORGET_POSTGRESQL = (text("DELETE FROM event_fts WHERE session = :session"),)
_CLEAR_SQLITE = (text("INSERT INTO event_fts (event_fts) VALUES ('delete-all')"), text("DELETE FROM event_fts_source"))
_CLEAR_POSTGRESQL = (text("DELETE FROM event_fts"),)
# What was deleted leaves the index's pages when they are merged. A negative number of pages begins to merge all of it.
_COMPACT_SQLITE = "INSERT INTO event_fts (event_fts, rank) VALUES ('merge', ?)"
_COMPACT_PAGES = 200

_SUMS = (
    "message_count",
    "run_count",
    "run_time",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "request_count",
    "tool_call_count",
    "cost_micros",
)
_ADD_USAGE = text(
    f"INSERT INTO usage_day (session, day, {', '.join(_SUMS)}) "
    f"VALUES (:session, :day, {', '.join(f':{s}' for s in _SUMS)}) "
    f"ON CONFLICT (session, day) DO UPDATE SET {', '.join(f'{s} = usage_day.{s} + excluded.{s}' for s in _SUMS)}"
)


class Slice(NamedTuple):
    """What was made of the events after position `after` up to and including `through`."""

    after: int
    through: int
    derived: Sequence[Derived]


def progress(conn: Connection) -> Progress:
    head = int(conn.execute(select(LOG_HEAD.c.position)).scalar_one())
    row = conn.execute(select(LOG_FOLLOWER.c.position, LOG_FOLLOWER.c.version)).one()
    return Progress(int(row[0]) if row[1] == VERSION else 0, head)


def begin(conn: Connection) -> None:
    """Throws away what another version of the rules made; it is made anew from the log."""
    _lock(conn)
    if conn.execute(select(LOG_FOLLOWER.c.version)).scalar_one() == VERSION:
        return
    for statement in _CLEAR_SQLITE if conn.dialect.name == "sqlite" else _CLEAR_POSTGRESQL:
        conn.execute(statement)
    conn.execute(delete(USAGE_DAY))
    conn.execute(update(LOG_FOLLOWER).values(position=0, version=VERSION))


def write_slice(conn: Connection, new: Slice) -> bool:
    """False when another replica has been there already. What was purged meanwhile is left out."""
    _lock(conn)
    if tuple(conn.execute(select(LOG_FOLLOWER.c.position, LOG_FOLLOWER.c.version)).one()) != (new.after, VERSION):
        return False
    telling = [each for each in new.derived if each.words or each.tally is not None]
    if telling:
        positions = [each.position for each in telling]
        there = set(conn.execute(select(EVENT.c.position).where(among(conn, EVENT.c.position, positions))).scalars())
        telling = [each for each in telling if each.position in there]
        _add_words(conn, [each for each in telling if each.words])
        _add_usage(conn, telling)
    conn.execute(update(LOG_FOLLOWER).values(position=new.through))
    return True


def forget_session(conn: Connection, session: int) -> None:
    """Takes all that was made from a session's events away; part of its purge."""
    for statement in _FORGET_SQLITE if conn.dialect.name == "sqlite" else _FORGET_POSTGRESQL:
        conn.execute(statement, {"session": session})
    conn.execute(delete(USAGE_DAY).where(USAGE_DAY.c.session == session))


def compact(conn: Connection, *, first: bool) -> bool:
    """A step of having the words of what was purged leave the file as well; whether another may be needed."""
    if conn.dialect.name != "sqlite":
        return False
    driver: Any = conn.connection.driver_connection
    before = driver.total_changes
    direct_sql.run(conn, _COMPACT_SQLITE, (-_COMPACT_PAGES if first else _COMPACT_PAGES,))
    # As the documentation of FTS5 has it: a merge that found nothing to do changes less than two rows.
    return bool(driver.total_changes - before >= 2)


def scope_of_session(session: int) -> str:
    return f"s{session}"


def scope_of_bot(bot: str) -> str:
    return f"b{bot.encode().hex()}"


def scope_of_role(role: int) -> str:
    return f"r{role}"


def usage_of(row: Sequence[Any]) -> Tally:
    """From the columns of SUM_COLUMNS."""
    return Tally(int(row[0]), int(row[1]), int(row[2]), Usage(*(int(value) for value in row[3:])))


SUM_COLUMNS = tuple(USAGE_DAY.c[name] for name in _SUMS)


def _lock(conn: Connection) -> None:
    """Nobody appends or purges meanwhile: on SQLite nobody can, on PostgreSQL this row is taken before any write."""
    conn.execute(select(LOG_HEAD.c.position).with_for_update()).scalar_one()


def _add_words(conn: Connection, entries: Sequence[Derived]) -> None:
    if not entries:
        return
    if conn.dialect.name == "sqlite":
        rows = [
            {
                "position": each.position,
                "session": each.session,
                "scope": f"{scope_of_session(each.session)} {scope_of_bot(each.bot)} {scope_of_role(each.role)}",
                "words": " ".join(each.words),
            }
            for each in entries
        ]
        conn.execute(_INSERT_SOURCE, rows)
        conn.execute(_INSERT_SQLITE, rows)
    else:
        conn.execute(
            _INSERT_POSTGRESQL,
            [{"position": each.position, "session": each.session, "words": _vector(each)} for each in entries],
        )


def _vector(entry: Derived) -> str:
    """The text form of a tsvector. What it is about begins with a colon, which no word does."""
    places: dict[str, list[int]] = {}
    for place, word in enumerate(entry.words, 1):
        found = places.setdefault(word, [])
        if len(found) < _MAX_PLACES:
            found.append(min(place, _MAX_POSITION))
    scopes = (scope_of_session(entry.session), scope_of_bot(entry.bot), scope_of_role(entry.role))
    vector = [f"':{scope}'" for scope in scopes]
    left = 900_000  # a tsvector holds at most a MiB
    for word, at in places.items():
        lexeme = f"'{word}':{','.join(map(str, at))}"
        left -= len(word.encode()) + 8 + 2 * len(at)
        if left < 0:
            break
        vector.append(lexeme)
    return " ".join(vector)


def _add_usage(conn: Connection, entries: Sequence[Derived]) -> None:
    sums: dict[tuple[int, int], Tally] = {}
    for each in entries:
        if each.tally is not None:
            key = (each.session, each.day)
            sums[key] = sums.get(key, NOTHING).plus(each.tally)
    rows = [
        {
            "session": session,
            "day": day,
            "message_count": tally.message_count,
            "run_count": tally.run_count,
            "run_time": tally.run_time,
            "input_tokens": tally.usage.input_tokens,
            "output_tokens": tally.usage.output_tokens,
            "cache_read_tokens": tally.usage.cache_read_tokens,
            "cache_write_tokens": tally.usage.cache_write_tokens,
            "request_count": tally.usage.request_count,
            "tool_call_count": tally.usage.tool_call_count,
            "cost_micros": tally.usage.cost_micros,
        }
        for (session, day), tally in sorted(sums.items())
    ]
    if rows:
        conn.execute(_ADD_USAGE, rows)
