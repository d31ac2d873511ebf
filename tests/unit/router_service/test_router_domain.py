"""States, backoff and verdicts."""

import random

import pytest

from chassis.errors import Internal
from router_service.domain.retry import Backoff, FailedAttempt, judge
from router_service.domain.state import LIVE, TERMINAL, WAITING, MessageState, can_move, move


def test_every_message_can_reach_an_end_and_none_leaves_it():
    for state in WAITING | LIVE:
        assert any(can_move(state, end) for end in TERMINAL)
    for state in TERMINAL - {MessageState.DEAD_LETTERED}:
        assert not any(can_move(state, other) for other in MessageState)


def test_an_impossible_move_is_a_defect():
    assert move(MessageState.QUEUED, MessageState.LEASED) is MessageState.LEASED
    with pytest.raises(Internal):
        move(MessageState.SUCCEEDED, MessageState.QUEUED)


def test_backoff_doubles_up_to_its_cap():
    backoff = Backoff(1_000_000, 60_000_000)
    ceilings = [backoff.ceiling_us(failures) // 1_000_000 for failures in range(1, 10)]
    assert ceilings == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert backoff.ceiling_us(10_000) == 60_000_000


def test_jitter_is_spread_over_the_whole_wait():
    backoff = Backoff()
    draw = random.Random(7).random
    delays = [backoff.delay_us(5, draw) for _ in range(1_000)]
    assert min(delays) < 1_000_000
    assert 15_000_000 < max(delays) < 16_000_000


@pytest.mark.parametrize(
    ("fields", "cancel_requested", "state"),
    [
        ({"retryable": True}, False, MessageState.QUEUED),
        ({"retryable": True, "attempts": 5}, False, MessageState.DEAD_LETTERED),
        ({"retryable": False}, False, MessageState.FAILED),
        ({"retryable": False, "attempts": 5}, False, MessageState.FAILED),
        ({"retryable": True, "cancelled": True}, False, MessageState.CANCELLED),
        ({"retryable": True}, True, MessageState.CANCELLED),
    ],
)
def test_a_verdict_follows_from_what_the_worker_says(fields, cancel_requested, state):
    attempt = FailedAttempt(**{"attempts": 1, "max_attempts": 5, "cancelled": False, **fields})
    verdict = judge(attempt, cancel_requested=cancel_requested, backoff=Backoff(), random=lambda: 0.5)
    assert verdict.state is state


def test_the_workers_own_wait_replaces_the_backoff():
    attempt = FailedAttempt(1, 5, retryable=True, cancelled=False, retry_delay_us=123)
    assert judge(attempt, cancel_requested=False, backoff=Backoff(), random=lambda: 0.5).delay_us == 123
