"""Schedules: checked, their times, and what each time sends."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from chassis.errors import field_invalid
from mobot.router.v1 import message_pb2
from router_service.convert.drafts import check_text
from router_service.convert.times import set_span, set_time, span_us
from router_service.domain.scheduling import MAX_RUNS, MissedRuns, interval_times
from router_service.store.schedules import StoredSchedule

_MAX_INTERVAL_S: Final = 366 * 86_400.0
_MAX_CRON: Final = 256
_CRON_FIELDS: Final = 5


@dataclass(frozen=True, slots=True)
class Timing:
    """`cron` is empty for an interval, `interval_us` 0 for a cron expression."""

    cron: str
    interval_us: int
    time_zone: str
    missed: MissedRuns


def read_timing(given: message_pb2.Schedule, field: str = "schedule") -> Timing:
    """Raises INVALID_ARGUMENT (FIELD_INVALID)."""
    kind = given.WhichOneof("timing")
    if kind is None:
        raise field_invalid(f"{field}.timing", "must be set: a cron expression or an interval")
    zone = given.time_zone or "UTC"
    check_text(zone, f"{field}.time_zone", 64)
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise field_invalid(f"{field}.time_zone", "must be an IANA time zone", value=zone) from error
    if given.missed_run_policy not in (0, *MissedRuns):
        raise field_invalid(f"{field}.missed_run_policy", "must be a known MissedRunPolicy")
    missed = MissedRuns(given.missed_run_policy or MissedRuns.RUN_ONCE)
    if kind == "interval":
        interval_us = span_us(given.interval, f"{field}.interval", maximum_s=_MAX_INTERVAL_S)
        if interval_us < 1_000_000:
            raise field_invalid(f"{field}.interval", "must be at least 1 s")
        return Timing("", interval_us, zone, missed)
    check_text(given.cron, f"{field}.cron", _MAX_CRON)
    expression = " ".join(given.cron.split()).upper()
    if len(expression.split()) != _CRON_FIELDS:
        raise field_invalid(f"{field}.cron", "must have five fields: minute, hour, day, month, weekday")
    try:
        next(CronSim(expression, datetime(2026, 1, 1, tzinfo=UTC)), None)
    except CronSimError as error:
        raise field_invalid(f"{field}.cron", f"must be a cron expression ({error})", value=given.cron) from error
    return Timing(expression, 0, zone, missed)


def times(timing: Timing, *, anchor_us: int, from_us: int, now_us: int) -> Iterator[int]:
    """The times of a schedule made at `anchor_us`, from `from_us` on; of passed ones the newest 101 at most."""
    if timing.interval_us:
        return interval_times(anchor_us, timing.interval_us, from_us, now_us)
    return _cron_times(timing, from_us, now_us)


def _cron_times(timing: Timing, from_us: int, now_us: int) -> Iterator[int]:
    now = datetime.fromtimestamp(max(now_us, from_us - 1) / 1e6, ZoneInfo(timing.time_zone))
    passed: list[int] = []
    # Back from now, because a year of missed minutes is nothing to walk through.
    for at in CronSim(timing.cron, now + timedelta(microseconds=1), reverse=True):
        us = int(at.timestamp()) * 1_000_000
        if us < from_us or len(passed) > MAX_RUNS:
            break
        passed.append(us)
    yield from reversed(passed)
    for at in CronSim(timing.cron, now):
        yield int(at.timestamp()) * 1_000_000


def timing_of(stored: StoredSchedule) -> Timing:
    return Timing(stored.cron, stored.interval_us, stored.time_zone, MissedRuns(stored.missed))


def content_of(given: message_pb2.Schedule, field: str = "schedule") -> bytes:
    """What is sent, serialised. Whether it can be sent is for the drafts' own reader to say."""
    if given.HasField("draft") == given.HasField("spawn"):
        raise field_invalid(f"{field}.draft", "must be set, or a spawn, and not both")
    for name in ("not_before_time", "expire_time"):
        if given.HasField("draft") and given.draft.HasField(name):
            raise field_invalid(f"{field}.draft.{name}", "must not be set: a schedule sends at its own times")
    if given.draft.idempotency_key:
        raise field_invalid(f"{field}.draft.idempotency_key", "must not be set: each sending has a key of its own")
    kept = message_pb2.Schedule()
    if given.HasField("draft"):
        kept.draft.CopyFrom(given.draft)
    else:
        kept.spawn.CopyFrom(given.spawn)
    return kept.SerializeToString()


def content(stored: StoredSchedule) -> message_pb2.Schedule:
    """A schedule of which only `draft` or `spawn` is set."""
    return message_pb2.Schedule.FromString(stored.content)


def to_proto_schedule(stored: StoredSchedule) -> message_pb2.Schedule:
    schedule = content(stored)
    schedule.name = f"schedules/{stored.id}"
    if stored.cron:
        schedule.cron = stored.cron
    else:
        set_span(schedule.interval, stored.interval_us)
    schedule.time_zone = stored.time_zone
    schedule.missed_run_policy = message_pb2.MissedRunPolicy.ValueType(stored.missed)
    schedule.paused = stored.paused
    schedule.etag = etag(stored.version)
    schedule.creator = stored.creator
    if stored.next_us:
        set_time(schedule.next_time, stored.next_us)
    if stored.last_us:
        set_time(schedule.last_time, stored.last_us)
    set_time(schedule.create_time, stored.create_us)
    return schedule


def etag(version: int) -> str:
    return f"v{version}"
