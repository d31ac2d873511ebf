"""What callers may ask of messages and mailboxes. Every function takes a connection and is run by `Database.read`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, and_, case, func, literal_column, or_, select

from router_service.domain.state import MessageState
from router_service.models import ATTACHMENT, DECISION, JOINING, MAILBOX, MESSAGE
from router_service.store.joining import WAITS

_M: Final = MESSAGE.c
_B: Final = MAILBOX.c
_A: Final = ATTACHMENT.c


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message with all its columns, and when its lease ends (0 for none).

    The row has `joined_run`, the run whose turn took it in, and `request` and `decision`, question and answer, as well.
    """

    row: RowMapping
    lease_expire_us: int = 0
    queue_position: int = 0


@dataclass(frozen=True, slots=True)
class MessageQuery:
    """Fields that are set are combined by "and". `source` is a sender's principal or a source session."""

    session: str = ""
    bot: str = ""
    states: tuple[int, ...] = ()
    source: str = ""
    correlation_id: str = ""
    start_us: int = 0
    end_us: int = 0
    # Whose messages may be seen: those to or from this bot; empty for all.
    visible_to: str = ""

    def conditions(self) -> list[ColumnElement[bool]]:
        found: list[ColumnElement[bool]] = []
        if self.bot:
            found.append(_of_bot(self.bot))
        if self.states:
            found.append(_M.state.in_(self.states))
        if self.source:
            found.append(or_(_M.source == self.source, _M.sender == self.source))
        if self.correlation_id:
            found.append(_M.correlation_id == self.correlation_id)
        if self.start_us:
            found.append(_M.create_time >= self.start_us)
        if self.end_us:
            found.append(_M.create_time < self.end_us)
        if self.visible_to:
            found.append(or_(_of_bot(self.visible_to), _M.sender == self.visible_to))
        return found


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts of one mailbox, or of all mailboxes of a bot when `session` is empty. `oldest_us` is 0 for none."""

    session: str
    bot: str
    queued: int
    in_flight: int
    dead_letters: int
    oldest_us: int


def find_message(conn: Connection, *, message_id: str = "", run: str = "") -> StoredMessage | None:
    """A message by id or by run, with its place in the queue."""
    where = _M.id == message_id if message_id else _M.run == run
    row = conn.execute(whole().where(where)).mappings().first()
    if row is None:
        return None
    return StoredMessage(row, _lease_expire_us(conn, [row]).get(row["id"], 0), _queue_position(conn, row))


def list_messages(
    conn: Connection, query: MessageQuery, *, after: str, limit: int, ascending: bool
) -> list[StoredMessage]:
    """A page in order of acceptance, after the message with the id `after`."""
    conditions = query.conditions()
    if after:
        conditions.append(_M.id > after if ascending else _M.id < after)
    order = _M.id.asc() if ascending else _M.id.desc()
    rows = conn.execute(_of(query, whole()).where(*conditions).order_by(order).limit(limit)).mappings().all()
    return with_leases(conn, rows)


def anything_waits(conn: Connection, session: str) -> bool:
    """Whether a session has messages in the states QUEUED or ACCEPTED: found by its mailbox alone."""
    counts = select(_B.queued + _B.waiting).where(_B.session == session)
    return bool(conn.execute(counts).scalar())


def select_ids(conn: Connection, query: MessageQuery, *, limit: int, after: str = "") -> list[tuple[str, str, str]]:
    """(id, run, session) of messages, oldest first."""
    conditions = query.conditions()
    if after:
        conditions.append(_M.id > after)
    columns = _of(query, select(_M.id, _M.run, _M.session))
    found = conn.execute(columns.where(*conditions).order_by(_M.id).limit(limit))
    return [(row.id, row.run, row.session) for row in found]


def joined_messages(conn: Connection, run: str) -> list[tuple[str, str, bytes]]:
    """(id, run, draft) of the messages that the turn of `run` took in."""
    joined = select(_M.id, _M.run, _M.draft).join(JOINING, JOINING.c.message_id == _M.id)
    found = conn.execute(
        joined.where(JOINING.c.run == run, literal_column("joining.state = 2"))
    )  # as the index says it
    return [(row.id, row.run, bytes(row.draft)) for row in found]


def find_question(conn: Connection, message_id: str) -> tuple[int, bytes] | None:
    """When the newest question was asked, and the question as it is stored."""
    asked = select(DECISION.c.request_time, DECISION.c.request).where(DECISION.c.message_id == message_id)
    row = conn.execute(asked).first()
    return None if row is None else (row.request_time, bytes(row.request))


def find_run(conn: Connection, run: str) -> tuple[str, str, int] | None:
    """(id, session, state) of a run."""
    row = conn.execute(select(_M.id, _M.session, _M.state).where(_M.run == run)).first()
    return None if row is None else (row.id, row.session, row.state)


def mailbox_stats(conn: Connection, *, session: str = "", bot: str = "") -> list[Stats]:
    """One mailbox, or the sums of one or all bots, by name."""
    boxes = select(_B.session, _B.bot, _B.queued, _B.waiting, _B.lease_run)
    dead = select(_M.session, func.count().label("count")).where(_M.state == 9).group_by(_M.session)
    oldest = select(_M.session, func.min(_M.create_time).label("time")).where(_M.state == 2).group_by(_M.session)
    if session:
        boxes, dead = boxes.where(_B.session == session), dead.where(_M.session == session)
        oldest = oldest.where(_M.session == session)
    elif bot:
        boxes, dead, oldest = boxes.where(_B.bot == bot), dead.where(_of_bot(bot)), oldest.where(_of_bot(bot))
    dead_of = {row["session"]: row["count"] for row in conn.execute(dead).mappings()}
    oldest_of = {row["session"]: row["time"] for row in conn.execute(oldest).mappings()}
    sums: dict[str, list[int]] = {}
    for row in conn.execute(boxes):
        total = sums.setdefault(row.bot, [0, 0, 0, 0])
        total[0] += row.queued + row.waiting
        total[1] += row.lease_run is not None
        total[2] += dead_of.get(row.session, 0)
        first = oldest_of.get(row.session, 0)
        total[3] = min(filter(None, (total[3], first)), default=0)
    return [Stats(session, name, *total) for name, total in sorted(sums.items())]


def whole() -> Select[Any]:
    """What a `StoredMessage` is made of."""
    joined_run = case((JOINING.c.state > WAITS, JOINING.c.run), else_=None).label("joined_run")
    return (
        select(MESSAGE, joined_run, DECISION.c.request, DECISION.c.decision)
        .outerjoin(JOINING, JOINING.c.message_id == _M.id)
        .outerjoin(DECISION, DECISION.c.message_id == _M.id)
    )


def with_leases(conn: Connection, rows: Sequence[RowMapping]) -> list[StoredMessage]:
    """Rows with the ends of their leases."""
    expires = _lease_expire_us(conn, rows)
    return [StoredMessage(row, expires.get(row["id"], 0)) for row in rows]


def _of(query: MessageQuery, columns: Select[Any]) -> Select[Any]:
    """Narrows to the session's messages, found from the newest one backwards."""
    if not query.session:
        return columns
    newest = select(_B.last_message.label("id")).where(_B.session == query.session)
    chain = newest.cte("chain", recursive=True)
    chain = chain.union_all(select(_M.previous_id).join(chain, _M.id == chain.c.id).where(_M.previous_id.is_not(None)))
    return columns.where(_M.id.in_(select(chain.c.id)))


def _of_bot(bot: str) -> ColumnElement[bool]:
    # "0" follows "/": a range that the index on names can use.
    return and_(_M.session > f"{bot}/", _M.session < f"{bot}0")


def _lease_expire_us(conn: Connection, rows: Sequence[RowMapping]) -> dict[str, int]:
    """When the leases of live messages end: with the worker's attachment, or later by an extension."""
    workers = {row["worker"] for row in rows if row["state"] in (3, 4) and row["worker"]}
    if not workers:
        return {}
    found: dict[str, Any] = {
        row.worker: row.expire_time for row in conn.execute(select(ATTACHMENT).where(_A.worker.in_(workers)))
    }
    return {
        row["id"]: max(found.get(row["worker"], 0), row["lease_expire_time"] or 0)
        for row in rows
        if row["state"] in (3, 4)
    }


def _queue_position(conn: Connection, row: RowMapping) -> int:
    if row["state"] != MessageState.QUEUED:
        return 0
    before = select(func.count()).where(
        _M.session == row["session"],
        _M.state == 2,
        or_(_M.rank < row["rank"], and_(_M.rank == row["rank"], _M.position < row["position"])),
    )
    live = select(_B.lease_run).where(_B.session == row["session"])
    count: int = conn.execute(before).scalar_one()
    return count + (conn.execute(live).scalar() is not None)
