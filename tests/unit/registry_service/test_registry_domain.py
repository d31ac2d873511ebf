"""The rules of bots, workers and derived status."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from chassis.errors import PermissionDenied
from registry_service.domain import access
from registry_service.domain.bot import Bot, BotSettings, Lifecycle, bury, disable, enable, resume_if_due, suspend
from registry_service.domain.brain import EchoBrain, WorkerBrain
from registry_service.domain.errors import BotDeleted, BotDisabled
from registry_service.domain.status import BotState, BotStatus, BrainHealth, Serving, derive, same_but_for_report_time
from registry_service.domain.worker import (
    Report,
    Worker,
    WorkerSettings,
    WorkerState,
    after_silence,
    ask_to_drain,
    differs_visibly,
    may_begin_to_serve,
    new_lease,
    renew,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(seconds=5)
HEALTHY, FAILING = BrainHealth.HEALTHY, BrainHealth.FAILING
STARTING, DEGRADED, UNSAID = BrainHealth.STARTING, BrainHealth.DEGRADED, BrainHealth.UNSPECIFIED

BOT = Bot("main", "u", BotSettings("Main", EchoBrain()), NOW, NOW)
WORKER = Worker("w", "u", WorkerSettings(1), ("main",), new_lease("secret", 12, NOW), "operators/root", NOW)


def serving(
    health: BrainHealth = HEALTHY, *, suspect: bool = False, in_flight: int = 0, heard: bool = True, worker: str = "w"
) -> Serving:
    return Serving(worker, suspect, in_flight, health, f"{health} detail", NOW if heard else None)


@pytest.mark.parametrize(
    ("servings", "state"),
    [
        ([], BotState.OFFLINE),
        ([serving(UNSAID, heard=False)], BotState.STARTING),
        ([serving(STARTING)], BotState.STARTING),
        ([serving(UNSAID)], BotState.IDLE),
        ([serving()], BotState.IDLE),
        ([serving(), serving(FAILING)], BotState.IDLE),
        ([serving(in_flight=1)], BotState.WORKING),
        ([serving(FAILING, in_flight=1)], BotState.WORKING),
        ([serving(DEGRADED)], BotState.DEGRADED),
        ([serving(FAILING)], BotState.DEGRADED),
        ([serving(FAILING), serving(STARTING)], BotState.DEGRADED),
        ([serving(suspect=True)], BotState.SUSPECT),
        ([serving(suspect=True, in_flight=1)], BotState.SUSPECT),
        ([serving(suspect=True), serving()], BotState.IDLE),
        ([serving(suspect=True), serving(FAILING)], BotState.DEGRADED),
        ([serving(suspect=True, in_flight=1), serving()], BotState.WORKING),
    ],
)
def test_the_state_follows_from_the_workers(servings, state):
    assert derive(BotStatus(), servings, NOW).state is state


@pytest.mark.parametrize(
    ("healths", "best"),
    [
        ([], UNSAID),
        ([FAILING, STARTING], STARTING),
        ([STARTING, DEGRADED], DEGRADED),
        ([DEGRADED, HEALTHY], HEALTHY),
        ([UNSAID, FAILING], FAILING),
    ],
)
def test_the_best_health_of_the_workers_is_shown(healths, best):
    assert derive(BotStatus(), [serving(health) for health in healths], NOW).brain_health is best


def test_since_moves_only_with_the_state():
    idle = derive(BotStatus(), [serving()], NOW)
    assert derive(idle, [serving(), serving(worker="x")], LATER).since == NOW
    assert derive(idle, [serving(in_flight=1)], LATER).since == LATER


def test_the_last_report_is_remembered_after_its_worker_is_gone():
    idle = derive(BotStatus(), [serving()], NOW)
    assert derive(idle, [], LATER).report_time == NOW
    assert derive(BotStatus(), [], LATER).report_time is None


def test_at_most_thirty_two_workers_are_named_and_all_are_counted():
    status = derive(BotStatus(), [serving(worker=f"w{number:02}") for number in reversed(range(40))], NOW)
    assert status.workers == tuple(f"w{number:02}" for number in range(32))
    assert status.worker_count == 40


def test_an_unhealthy_state_is_explained_and_a_healthy_one_is_not():
    assert derive(BotStatus(), [serving(FAILING)], NOW).detail == "FAILING detail"
    assert derive(BotStatus(), [serving()], NOW).detail == ""
    assert derive(BotStatus(), [], NOW).detail
    assert derive(BotStatus(), [serving(suspect=True)], NOW).detail


def test_a_newer_report_time_alone_is_no_news():
    idle = derive(BotStatus(), [serving()], NOW)
    assert same_but_for_report_time(idle, replace(idle, report_time=LATER))
    assert not same_but_for_report_time(idle, replace(idle, in_flight_count=1))


def test_a_worker_is_suspect_after_one_missed_heartbeat_and_offline_after_its_lease():
    assert after_silence(WORKER, NOW + timedelta(seconds=5.9)) is WORKER
    suspect = after_silence(WORKER, NOW + timedelta(seconds=6))
    assert suspect.state is WorkerState.SUSPECT
    offline = after_silence(suspect, NOW + timedelta(seconds=12))
    assert (offline.state, offline.end_time) == (WorkerState.OFFLINE, NOW + timedelta(seconds=12))
    assert after_silence(offline, NOW + timedelta(days=1)) is offline


def test_a_report_makes_a_suspect_worker_active_or_draining_again():
    suspect = after_silence(WORKER, NOW + timedelta(seconds=6))
    assert renew(suspect, Report("w", "secret", 1, 0), LATER).state is WorkerState.ACTIVE
    drained = ask_to_drain(suspect, timeout=None, reason="r", now=LATER)
    assert (drained.state, drained.drain) == (WorkerState.SUSPECT, True)
    assert renew(drained, Report("w", "secret", 1, 0), LATER).state is WorkerState.DRAINING


def test_a_second_drain_replaces_time_and_reason_but_not_its_beginning():
    first = ask_to_drain(WORKER, timeout=timedelta(seconds=5), reason="a", now=NOW)
    second = ask_to_drain(first, timeout=None, reason="b", now=LATER)
    assert (second.drain_time, second.drain_deadline, second.drain_reason) == (NOW, None, "b")


def test_a_renewed_lease_is_not_visible_and_everything_else_is():
    renewed = renew(WORKER, Report("w", "secret", 1, 0), LATER)
    assert not differs_visibly(WORKER, renewed)
    assert differs_visibly(WORKER, renew(WORKER, Report("w", "secret", 1, 3), LATER))
    assert differs_visibly(WORKER, replace(renewed, bots=()))


def test_a_worker_serves_what_its_labels_and_its_registrant_allow():
    picky = replace(BOT, settings=replace(BOT.settings, brain=WorkerBrain(worker_labels={"gpu": "yes"})))
    able = replace(WORKER, settings=WorkerSettings(1, labels={"gpu": "yes", "x": "y"}))
    assert may_begin_to_serve(able, picky)
    assert not may_begin_to_serve(WORKER, picky)
    assert not may_begin_to_serve(WORKER, None)
    assert not may_begin_to_serve(WORKER, replace(BOT, lifecycle=Lifecycle.DRAINING))
    assert may_begin_to_serve(replace(WORKER, registrant="bots/main"), BOT)
    assert not may_begin_to_serve(replace(WORKER, registrant="bots/other"), BOT)


def test_state_changes_without_effect_return_the_very_same_bot():
    assert enable(BOT, LATER) is BOT
    off = disable(BOT, "r", NOW)
    assert disable(off, "r", LATER) is off
    paused = suspend(BOT, until=LATER, reason="r", now=NOW)
    assert suspend(paused, until=LATER, reason="r", now=NOW) is paused
    assert resume_if_due(paused, NOW) is paused
    assert not resume_if_due(paused, LATER).suspended


def test_a_disabled_or_deleted_bot_is_not_suspended():
    with pytest.raises(BotDisabled):
        suspend(disable(BOT, "", NOW), until=None, reason="", now=NOW)
    with pytest.raises(BotDeleted):
        suspend(bury(BOT, NOW), until=None, reason="", now=NOW)


@pytest.mark.parametrize(
    ("actor", "root", "worker", "bots", "allowed"),
    [
        ("operators/root", True, "w", ["a"], True),
        ("services/router", True, "w", ["a"], True),
        ("workers/w", False, "w", ["a"], True),
        ("workers/w", False, "x", [], False),
        ("workers/w", True, "x", ["a"], True),
        ("bots/a", False, "w", ["a"], True),
        ("bots/a", True, "w", ["a", "b"], False),
        ("strangers/x", False, "w", [], False),
    ],
)
def test_who_registers_which_worker(actor, root, worker, bots, allowed):
    if allowed:
        access.check_register(actor, root=root, worker=worker, bots=bots)
    else:
        with pytest.raises(PermissionDenied):
            access.check_register(actor, root=root, worker=worker, bots=bots)
