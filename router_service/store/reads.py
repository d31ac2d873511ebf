"""What the delivery looks up between its commits. Every function takes a connection and is run by `Database.read`."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, RowMapping, and_, func, or_, select

from router_service.domain.mail import AskedRun, EndedRun, JoinedMessage, Lease, RetryingRun
from router_service.domain.state import TERMINAL, MessageState
from router_service.models import ATTACHMENT, DECISION, JOINING, MAILBOX, MESSAGE
from router_service.store.ending import LOG_NOTHING, LOG_QUESTION, LOG_RETRY
from router_service.store.joining import WAITS

_M: Final = MESSAGE.c
_B: Final = MAILBOX.c
_A: Final = ATTACHMENT.c
_TERMINAL: Final = tuple(int(state) for state in sorted(TERMINAL))
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


def waiting_for_us(conn: Connection) -> list[tuple[str, str]]:
    """(id, session) of messages that wait for a time that the router itself has set: a retry, the end of a grace."""
    ours = select(_M.id, _M.session).where(_M.due_time.is_not(None), _M.state.in_((2, 3, 4)))
    return [(row.id, row.session) for row in conn.execute(ours.order_by(_M.due_time))]


def set_by_a_clock_ahead(conn: Connection, now_us: int) -> list[tuple[str, str]]:
    """(id, session) of messages that wait for a time that the router has set at a time that is still to come."""
    retry = and_(_M.state == 2, _M.next_attempt_time.is_not(None), _M.attempts > 0, _M.end_time > now_us)
    grace = and_(_M.state.in_((3, 4)), _M.cancel_time > now_us)
    lease = and_(_M.state.in_((3, 4)), _M.lease_expire_time.is_not(None), _M.end_time > now_us)
    ours = select(_M.id, _M.session).where(_M.due_time.is_not(None), or_(retry, grace, lease))
    return [(row.id, row.session) for row in conn.execute(ours.order_by(_M.due_time))]


def expired_workers(conn: Connection, now_us: int, lease_us: int) -> tuple[list[str], int]:
    """Workers whose attachment has run out, and when the next one will (0: never).

    One that ends later than any lease that is given now is of a clock that was set back since.
    """
    over = or_(_A.expire_time <= now_us, _A.expire_time > now_us + 2 * lease_us)
    expired = list(conn.execute(select(_A.worker).where(over)).scalars())
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


def find_ended(conn: Connection, runs: Sequence[str]) -> list[str]:
    """Those of `runs` that have ended."""
    ended = select(_M.run).where(_M.run.in_(runs), _M.state.in_(_TERMINAL))
    return list(conn.execute(ended).scalars())


def read_drafts(conn: Connection, ids: Sequence[str]) -> dict[str, bytes]:
    return {row.id: row.draft for row in conn.execute(select(_M.id, _M.draft).where(_M.id.in_(ids)))}


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
