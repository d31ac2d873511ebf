"""Rules of schedules and of the policy."""

from datetime import UTC, datetime
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_service.convert.schedules import Timing, times
from router_service.domain.policy import Action, Party, Rule, decide
from router_service.domain.scheduling import MAX_RUNS, MissedRuns, due_times, interval_times

SECOND = 1_000_000


def us(*parts):
    return int(datetime(*parts, tzinfo=UTC).timestamp()) * SECOND


@given(
    interval=st.integers(1, 100_000).map(lambda s: s * SECOND),
    from_beats=st.integers(1, 500),
    late=st.integers(0, 400_000_000_000),
)
def test_intervals_keep_their_beat_however_late_somebody_looks(interval, from_beats, late):
    from_us = from_beats * interval
    now_us = from_us + late
    due = due_times(interval_times(0, interval, from_us, now_us), now_us, MissedRuns.RUN_ALL)
    assert all(at % interval == 0 and from_us <= at <= now_us for at in due.sent)
    assert due.next_us == (now_us // interval + 1) * interval
    assert len(due.sent) == min(MAX_RUNS, now_us // interval - from_beats + 1)
    assert due.sent == tuple(sorted(set(due.sent)))


def test_missed_times_are_skipped_or_collapsed_and_those_just_passed_are_not_missed():
    beats = [900 * SECOND, 930 * SECOND, 960 * SECOND, 990 * SECOND, 1_120 * SECOND]
    for now_s, policy, sent in (
        (1_000, MissedRuns.SKIP, beats[3:4]),
        (1_000, MissedRuns.RUN_ONCE, beats[3:4]),
        (1_000, MissedRuns.RUN_ALL, beats[:4]),
        (1_100, MissedRuns.SKIP, []),
        (1_100, MissedRuns.RUN_ONCE, beats[3:4]),
        (1_100, MissedRuns.RUN_ALL, beats[:4]),
    ):
        due = due_times(iter(beats), now_s * SECOND, policy)
        assert (list(due.sent), due.next_us) == (sent, beats[4])


@pytest.mark.parametrize("policy", list(MissedRuns))
def test_a_schedule_that_runs_often_loses_no_time_to_a_moment_of_waiting(policy):
    beats = [second * SECOND for second in range(1_000, 1_010)]
    due = due_times(iter(beats), 1_004 * SECOND + 900_000, policy)
    assert list(due.sent) == beats[:5]


def test_a_schedule_that_has_no_further_time_ends():
    assert due_times(iter([5]), 5, MissedRuns.RUN_ALL).next_us is None


def cron(expression, zone="UTC"):
    return Timing(expression, 0, zone, MissedRuns.RUN_ALL)


def test_cron_times_begin_with_the_one_that_is_asked_for():
    start = us(2026, 3, 1, 12)
    found = list(islice(times(cron("0 12 * * *"), anchor_us=0, from_us=start, now_us=start), 2))
    assert found == [start, us(2026, 3, 2, 12)]


def test_of_long_missed_cron_times_the_newest_are_given_in_order():
    now = us(2026, 6, 1, 0, 0, 30)
    found = list(islice(times(cron("* * * * *"), anchor_us=0, from_us=us(2025, 1, 1), now_us=now), MAX_RUNS + 3))
    assert found == [us(2026, 6, 1) + 60 * SECOND * n for n in range(-MAX_RUNS, 3)]


@pytest.mark.parametrize(
    ("expression", "zone", "day"),
    [("30 2 * * *", "Europe/Berlin", (2026, 3, 28)), ("30 2 * * *", "Europe/Berlin", (2026, 10, 24))],
)
def test_a_daily_time_comes_once_a_day_when_clocks_change(expression, zone, day):
    start = us(*day)
    found = list(islice(times(cron(expression, zone), anchor_us=0, from_us=start, now_us=start), 4))
    gaps = {(later - earlier) // (3600 * SECOND) for earlier, later in pairwise(found)}
    assert gaps <= {23, 24, 25}


ALICE, BOB = Party("bots/alice", "o1", {"team": "red"}), Party("bots/bob", "o2", {"team": "blue"})
CAROL = Party("bots/carol", "o1")


@pytest.mark.parametrize(
    ("rules", "actor", "target", "action", "allowed"),
    [
        ([], ALICE, ALICE, Action.READ, True),
        ([], ALICE, CAROL, Action.SEND, True),
        ([], ALICE, CAROL, Action.SPAWN, True),
        ([], ALICE, CAROL, Action.READ, False),
        ([], ALICE, BOB, Action.SEND, False),
        ([("bots/alice", "bots/bob", True)], ALICE, BOB, Action.SEND, True),
        ([("bots/*", "label:team=blue", True)], ALICE, BOB, Action.SEND, True),
        ([("label:team=blue", "bots/*", True)], ALICE, BOB, Action.SEND, False),
        ([("bots/*", "bots/*", False), ("bots/*", "bots/*", True)], ALICE, CAROL, Action.SEND, False),
        ([("bots/*", "bots/*", False)], ALICE, CAROL, Action.SPAWN, True),
    ],
)
def test_the_first_rule_that_fits_decides(rules, actor, target, action, allowed):
    made = [Rule(a, t, frozenset({Action.SEND}), allow) for a, t, allow in rules]
    assert decide(made, actor, target, action).allowed is allowed
