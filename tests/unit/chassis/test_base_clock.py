"""Clocks and ids."""

import uuid
from datetime import UTC, datetime, timedelta, timezone

import pytest

from chassis.clock import FakeClock, SystemClock, Uuid7Ids


def test_the_system_clock_is_utc():
    assert SystemClock().now().utcoffset() == timedelta(0)


def test_a_fake_clock_moves_only_when_told_to():
    clock = FakeClock(datetime(2026, 11, 21, 2, tzinfo=timezone(timedelta(hours=2))))
    assert clock.now() == clock.now() == datetime(2026, 11, 21, tzinfo=UTC)
    assert clock.advance(timedelta(seconds=5)) == clock.now() == datetime(2026, 11, 21, 0, 0, 5, tzinfo=UTC)


def test_a_fake_clock_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="aware"):
        FakeClock(datetime(2026, 11, 21))  # noqa: DTZ001 - the point of the test


def test_ids_are_version_7_and_carry_the_time():
    clock = FakeClock()
    parsed = uuid.UUID(Uuid7Ids(clock)())
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert parsed.int >> 80 == int(clock.now().timestamp() * 1000)


def test_ids_grow_while_the_clock_stands():
    ids = Uuid7Ids(FakeClock())
    made = [ids() for _ in range(10_000)]
    assert made == sorted(set(made))


def test_ids_grow_when_the_clock_steps_back():
    clock = FakeClock()
    ids = Uuid7Ids(clock)
    first = ids()
    clock.advance(timedelta(seconds=-10))
    assert ids() > first
