import random

import pytest

from mobot_cli.restart_policy import Deaths, RestartPolicy

POLICY = RestartPolicy()


@pytest.fixture
def deaths():
    return Deaths(POLICY, random.Random(7))


def test_delays_double_up_to_the_longest_and_are_shortened_by_at_most_half(deaths):
    apart = POLICY.give_up_window_s  # far enough that it never gives up
    delays = [deaths.record(now=n * apart, healthy_s=0.0) for n in range(12)]
    for n, delay in enumerate(delays):
        full = min(10.0, 0.2 * 2**n)
        assert full / 2 <= delay <= full
    assert len(set(delays)) == len(delays)


def test_a_process_that_was_healthy_starts_at_the_first_delay_again(deaths):
    for n in range(5):
        deaths.record(now=n * 60.0, healthy_s=29.0)
    assert deaths.record(now=600.0, healthy_s=30.0) <= 0.2


def test_gives_up_at_the_eighth_death_within_a_minute(deaths):
    assert None not in [deaths.record(now=float(n), healthy_s=0.0) for n in range(7)]
    assert deaths.record(now=60.0, healthy_s=0.0) is None


def test_never_gives_up_on_deaths_further_apart(deaths):
    assert None not in [deaths.record(now=n * 8.6, healthy_s=0.0) for n in range(200)]


def test_deaths_without_end_do_not_overflow(deaths):
    assert all(deaths.record(now=n * 100.0, healthy_s=0.0) for n in range(2_000))
