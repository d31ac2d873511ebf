"""What is read outside the group writer. Every function takes a connection and is run by `Database.read`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, and_, case, func, literal_column, or_, select

from router_service.domain.mail import AskedRun, EndedRun, JoinedMessage, Lease, RetryingRun
from router_service.domain.state import TERMINAL, MessageState
from router_service.models import ATTACHMENT, DECISION, JOINING, MAILBOX, MESSAGE
from router_service.store.ending import LOG_NOTHING, LOG_QUESTION, LOG_RETRY
from router_service.store.joining import WAITS

_M: Final = MESSAGE.c
_B: Final = MAILBOX.c
_A: Final = ATTACHMENT.c
_TERMINAL: Final = tuple(int(state) for state in sorted(TERMINAL))


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


def lease_states(conn: Connection, sessions: Sequence[str]) -> dict[str, tuple[str, int, bool]]:
    """By session: the run that has the lease (empty for none), the epoch, and whether it shall stop."""
    rows = conn.execute(select(_B.session, _B.lease_run, _B.epoch, _B.cancel_time).where(_B.session.in_(sessions)))
    return {row.session: (row.lease_run or "", row.epoch, row.cancel_time is not None) for row in rows}


def offered_messages(conn: Connection, runs: Sequence[str]) -> list[tuple[str, JoinedMessage]]:
    """Messages that wait to be taken in by the turns of these runs, in order."""
    offered = (
        select(JOINING.c.run.label("host"), _M.id, _M.run, _M.session, _M.sender, _M.create_time)
        .add_columns(_M.origin_id, _M.origin_run)
        .join(MESSAGE, _M.id == JOINING.c.message_id)
        .where(JOINING.c.run.in_(runs), JOINING.c.state == WAITS, _M.state == 2)
        .order_by(_M.id)
    )
    return [
        (
            row.host,
            JoinedMessage(
                message_id=row.id,
                run=row.run,
                session=row.session,
                sender=row.sender,
                create_us=row.create_time,
                origin_id=row.origin_id or "",
                origin_run=row.origin_run or "",
            ),
        )
        for row in conn.execute(offered)
    ]


def find_question(conn: Connection, message_id: str) -> tuple[int, bytes] | None:
    """When the newest question was asked, and the question as it is stored."""
    asked = select(DECISION.c.request_time, DECISION.c.request).where(DECISION.c.message_id == message_id)
    row = conn.execute(asked).first()
    return None if row is None else (row.request_time, bytes(row.request))


def find_run(conn: Connection, run: str) -> tuple[str, str, int] | None:
    """(id, session, state) of a run."""
    row = conn.execute(select(_M.id, _M.session, _M.state).where(_M.run == run)).first()
    return None if row is None else (row.id, row.session, row.state)


def find_ended(conn: Connection, runs: Sequence[str]) -> list[str]:
    """Those of `runs` that have ended."""
    ended = select(_M.run).where(_M.run.in_(runs), _M.state.in_(_TERMINAL))
    return list(conn.execute(ended).scalars())


def read_drafts(conn: Connection, ids: Sequence[str]) -> dict[str, bytes]:
    return {row.id: row.draft for row in conn.execute(select(_M.id, _M.draft).where(_M.id.in_(ids)))}


def ready_sessions(conn: Connection, bots: Sequence[str], now_us: int, limit: int) -> list[tuple[str, str]]:
    """(session, bot) of free mailboxes of these bots whose head can be leased."""
    ready = (
        select(_B.session, _B.bot)
        .where(_B.bot.in_(bots), _B.lease_run.is_(None), _B.queued > 0)
        .where(or_(_B.wait_until.is_(None), _B.wait_until <= now_us))
        .limit(limit)
    )
    return [(row.session, row.bot) for row in conn.execute(ready)]


def due_messages(conn: Connection, now_us: int, limit: int) -> tuple[list[tuple[str, str]], int]:
    """(id, session) of messages that a timer must look at, oldest first, and when the next will be due (0: never)."""
    due = select(_M.id, _M.session).where(_M.due_time.is_not(None), _M.due_time <= now_us)
    rows = [(row.id, row.session) for row in conn.execute(due.order_by(_M.due_time).limit(limit))]
    following = conn.execute(
        select(func.min(_M.due_time)).where(_M.due_time.is_not(None), _M.due_time > now_us)
    ).scalar()
    return rows, following or 0


def expired_workers(conn: Connection, now_us: int) -> tuple[list[str], int]:
    """Workers whose attachment has run out, and when the next one will (0: never)."""
    expired = list(conn.execute(select(_A.worker).where(_A.expire_time <= now_us)).scalars())
    following = conn.execute(select(func.min(_A.expire_time)).where(_A.expire_time > now_us)).scalar()
    return expired, following or 0


def leases_of(conn: Connection, workers: Sequence[str]) -> list[tuple[Lease, bool]]:
    """The live leases of workers, each with whether its run shall stop."""
    held = (
        select(
            *(_M[name] for name in _LEASE_COLUMNS),
            _B.session.label("box"),
            _B.bot,
            _B.epoch.label("box_epoch"),
            _B.lease_worker,
            _B.cancel_time.label("box_cancel"),
        )
        .join(MAILBOX, _B.lease_message == _M.id)
        .where(_B.lease_worker.in_(workers))
    )
    return [(_lease(row), row["box_cancel"] is not None) for row in conn.execute(held).mappings()]


def unlogged_runs(
    conn: Connection, limit: int, *, after: str = "", sessions: Sequence[str] = ()
) -> list[EndedRun | RetryingRun | AskedRun]:
    """Ends, retries and questions that the logs of these or all sessions may lack, by id of the message."""
    missing = select(*(_M[name] for name in _LOG_COLUMNS)).where(_M.log_flags > LOG_NOTHING, _M.id > after)
    if sessions:
        missing = missing.where(_M.session.in_(sessions))
    rows = conn.execute(missing.order_by(_M.id).limit(limit)).mappings().all()
    asking = [row["id"] for row in rows if row["log_flags"] == LOG_QUESTION]
    requests: dict[str, bytes] = {}
    if asking:
        asked = select(DECISION.c.message_id, DECISION.c.request).where(DECISION.c.message_id.in_(asking))
        requests = {row.message_id: bytes(row.request) for row in conn.execute(asked)}
    return [_unlogged(row, requests.get(row["id"], b"")) for row in rows]


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts of one mailbox, or of all mailboxes of a bot when `session` is empty. `oldest_us` is 0 for none."""

    session: str
    bot: str
    queued: int
    in_flight: int
    dead_letters: int
    oldest_us: int


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


_LEASE_COLUMNS: Final = (
    "id",
    "run",
    "epoch",
    "attempts",
    "max_attempts",
    "start_time",
    "create_time",
    "sender",
    "asked",
    "origin_id",
    "origin_run",
    "expire_time",
    "lease_expire_time",
)
_LOG_COLUMNS: Final = (
    "id",
    "run",
    "session",
    "state",
    "attempts",
    "start_time",
    "end_time",
    "next_attempt_time",
    "error_reason",
    "error_message",
    "usage",
    "stop_reason",
    "sender",
    "origin_id",
    "origin_run",
    "log_flags",
)


def _lease(row: RowMapping) -> Lease:
    return Lease(
        message_id=row["id"],
        run=row["run"],
        session=row["box"],
        bot=row["bot"],
        worker=row["lease_worker"],
        epoch=row["box_epoch"],
        attempt=row["attempts"],
        max_attempts=row["max_attempts"],
        start_us=row["start_time"] if row["attempts"] else 0,
        create_us=row["create_time"],
        sender=row["sender"],
        asked=bool(row["asked"]),
        origin_id=row["origin_id"] or "",
        origin_run=row["origin_run"] or "",
        expire_us=row["expire_time"] or 0,
        pulled_until_us=row["lease_expire_time"] or 0,
    )


def _unlogged(row: RowMapping, request: bytes) -> EndedRun | RetryingRun | AskedRun:
    if row["log_flags"] == LOG_RETRY:
        return _retrying(row)
    return _asked(row, request) if row["log_flags"] == LOG_QUESTION else _ended(row)


def _asked(row: RowMapping, request: bytes) -> AskedRun:
    return AskedRun(
        message_id=row["id"],
        run=row["run"],
        session=row["session"],
        bot=row["session"][: row["session"].index("/sessions/")],
        attempt=row["attempts"],
        sender=row["sender"],
        request=request,
    )


def whole() -> Select[Any]:
    """What a `StoredMessage` is made of."""
    joined_run = case((JOINING.c.state > WAITS, JOINING.c.run), else_=None).label("joined_run")
    return (
        select(MESSAGE, joined_run, DECISION.c.request, DECISION.c.decision)
        .outerjoin(JOINING, JOINING.c.message_id == _M.id)
        .outerjoin(DECISION, DECISION.c.message_id == _M.id)
    )


def _ended(row: RowMapping) -> EndedRun:
    return EndedRun(
        message_id=row["id"],
        run=row["run"],
        session=row["session"],
        bot=row["session"][: row["session"].index("/sessions/")],
        state=MessageState(row["state"]),
        attempts=row["attempts"],
        epoch=0,
        start_us=row["start_time"] if row["attempts"] else 0,
        end_us=row["end_time"],
        error_reason=row["error_reason"] or "",
        error_message=row["error_message"] or "",
        usage=bytes(row["usage"] or b""),
        stop_reason=row["stop_reason"] or "",
        sender=row["sender"],
        origin_id=row["origin_id"] or "",
        origin_run=row["origin_run"] or "",
    )


def _retrying(row: RowMapping) -> RetryingRun:
    return RetryingRun(
        message_id=row["id"],
        run=row["run"],
        session=row["session"],
        bot=row["session"][: row["session"].index("/sessions/")],
        attempt=row["attempts"],
        epoch=0,
        next_attempt_us=row["next_attempt_time"] or 0,
        error_reason=row["error_reason"] or "",
        error_message=row["error_message"] or "",
    )


def with_leases(conn: Connection, rows: Sequence[RowMapping]) -> list[StoredMessage]:
    """Rows with the ends of their leases."""
    expires = _lease_expire_us(conn, rows)
    return [StoredMessage(row, expires.get(row["id"], 0)) for row in rows]


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
