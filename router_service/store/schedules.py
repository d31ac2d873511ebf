"""Schedules. Functions take a connection."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, delete, func, insert, select, update

from router_service.domain.errors import EtagMismatch, ScheduleAlreadyExists, ScheduleNotFound
from router_service.models import SCHEDULE

_S: Final = SCHEDULE.c


@dataclass(frozen=True, slots=True)
class StoredSchedule:
    """`content` is the serialised contract message with what is sent; `next_us` is None while it is paused."""

    id: str
    uid: str
    version: int
    cron: str
    interval_us: int
    time_zone: str
    missed: int
    paused: bool
    next_us: int | None
    last_us: int | None
    create_us: int
    creator: str
    content: bytes


def create(conn: Connection, new: StoredSchedule) -> None:
    """Raises ALREADY_EXISTS (SCHEDULE_ALREADY_EXISTS)."""
    if conn.execute(select(_S.id).where(_S.id == new.id)).first() is not None:
        raise ScheduleAlreadyExists(new.id)
    conn.execute(insert(SCHEDULE).values(**_values(new), id=new.id, uid=new.uid, creator=new.creator))


def find(conn: Connection, schedule_id: str, creator: str = "", *, lock: bool = False) -> StoredSchedule:
    """`creator` confines the look to schedules of one. Raises NOT_FOUND (SCHEDULE_NOT_FOUND)."""
    query = select(SCHEDULE).where(_S.id == schedule_id)
    row = conn.execute(query.with_for_update() if lock else query).mappings().first()
    if row is None or creator not in ("", row["creator"]):
        raise ScheduleNotFound(f"schedules/{schedule_id}")
    return _stored(row)


def replace(conn: Connection, changed: StoredSchedule, etag: str, present_etag: str) -> None:
    """Raises ABORTED (ETAG_MISMATCH)."""
    if etag and etag != present_etag:
        raise EtagMismatch(etag)
    conn.execute(update(SCHEDULE).where(_S.id == changed.id).values(**_values(changed)))


def remove(conn: Connection, schedule_id: str, etag: str, present_etag: str) -> None:
    if etag and etag != present_etag:
        raise EtagMismatch(etag)
    conn.execute(delete(SCHEDULE).where(_S.id == schedule_id))


def page(conn: Connection, creator: str, *, after: str, limit: int) -> list[StoredSchedule]:
    query = select(SCHEDULE).where(_S.id > after).order_by(_S.id).limit(limit)
    if creator:
        query = query.where(_S.creator == creator)
    return [_stored(row) for row in conn.execute(query).mappings()]


def due(conn: Connection, now_us: int, limit: int) -> tuple[list[StoredSchedule], int]:
    """Schedules whose next time has come, and when the next one will be due (0: never)."""
    rows = conn.execute(
        select(SCHEDULE).where(_S.next_time.is_not(None), _S.next_time <= now_us).order_by(_S.next_time).limit(limit)
    )
    found = [_stored(row) for row in rows.mappings()]
    following = conn.execute(select(func.min(_S.next_time)).where(_S.next_time > now_us)).scalar()
    return found, following or 0


def touch(conn: Connection, schedule_id: str, now_us: int) -> None:
    """Says that it sent now."""
    conn.execute(update(SCHEDULE).where(_S.id == schedule_id).values(last_time=now_us))


def _values(schedule: StoredSchedule) -> Mapping[str, Any]:
    return {
        "version": schedule.version,
        "cron": schedule.cron,
        "interval_us": schedule.interval_us,
        "time_zone": schedule.time_zone,
        "missed": schedule.missed,
        "paused": schedule.paused,
        "next_time": schedule.next_us,
        "last_time": schedule.last_us,
        "create_time": schedule.create_us,
        "content": schedule.content,
    }


def _stored(row: RowMapping) -> StoredSchedule:
    return StoredSchedule(
        id=row["id"],
        uid=row["uid"],
        version=row["version"],
        cron=row["cron"],
        interval_us=row["interval_us"],
        time_zone=row["time_zone"],
        missed=row["missed"],
        paused=bool(row["paused"]),
        next_us=row["next_time"],
        last_us=row["last_time"],
        create_us=row["create_time"],
        creator=row["creator"],
        content=bytes(row["content"]),
    )
