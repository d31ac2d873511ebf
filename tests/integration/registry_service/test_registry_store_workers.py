"""Workers, leases and what they make of bots, in the store, on both engines."""

from datetime import timedelta

import pytest
from registry_store import DAY, NO_TICKET, Opened, about, opened, report

from registry_service.domain.bot import Lifecycle
from registry_service.domain.change import StatusChanged, WorkerChanged
from registry_service.domain.errors import BotNotFound, WorkerNotFound
from registry_service.domain.selection import BotFilter, WorkerFilter
from registry_service.domain.status import BotState, BrainHealth
from registry_service.domain.worker import ReportOutcome, WorkerState


async def state(registry: Opened, bot: str = "main") -> BotState:
    return (await registry.store.get_bot(bot)).status.state


async def test_a_worker_is_read_back_as_it_was_registered(registry: Opened):
    await registry.create("main")
    registered = await registry.register(
        "w", "main", labels={"gpu": "yes"}, host="h", process_id=5, software_version="x/1", capacity=3
    )
    assert await registry.store.find_workers(["w"]) == {"w": registered.worker}
    page = await registry.store.list_workers(WorkerFilter(labels={"gpu": "yes"}), size=5, after=())
    assert page.items == (registered.worker,)
    assert registered.bots == (await registry.store.get_bot("main"),)


async def test_a_lease_runs_out_in_two_steps_and_the_bot_follows(registry: Opened):
    await registry.create("main")
    registered = await registry.register("w", "main", lease_s=12)
    await registry.store.report([report(registered, about("main"))])
    assert await state(registry) is BotState.IDLE
    await registry.pass_time(seconds=5.9)
    assert await state(registry) is BotState.IDLE
    await registry.pass_time(seconds=0.2)
    assert await state(registry) is BotState.SUSPECT
    assert (await registry.store.get_worker("w")).state is WorkerState.SUSPECT
    await registry.pass_time(seconds=5.9)
    assert await state(registry) is BotState.OFFLINE
    worker = await registry.store.get_worker("w")
    assert (worker.state, worker.in_flight_count) == (WorkerState.OFFLINE, 0)
    (renewal,) = await registry.store.report([report(registered)])
    assert renewal.outcome is ReportOutcome.LEASE_LOST
    await registry.pass_time(hours=24)
    with pytest.raises(WorkerNotFound):
        await registry.store.get_worker("w")


async def test_a_late_report_is_lost_even_before_anybody_looked(registry: Opened):
    registered = await registry.register("w", lease_s=10)
    registry.clock.advance(timedelta(seconds=10))
    (renewal,) = await registry.store.report([report(registered)])
    assert renewal.outcome is ReportOutcome.LEASE_LOST


async def test_the_next_thing_due_is_known(registry: Opened):
    assert await registry.store.next_due() is None
    now = registry.clock.now()
    await registry.create("main")
    await registry.store.suspend_bot("main", "", until=now + DAY, reason="", ticket=NO_TICKET)
    assert await registry.store.next_due() == now + DAY
    await registry.register("w", lease_s=12)
    assert await registry.store.next_due() == now + timedelta(seconds=6)
    await registry.pass_time(seconds=6)
    assert await registry.store.next_due() == now + timedelta(seconds=12)
    await registry.pass_time(seconds=6)
    assert await registry.store.next_due() == now + DAY


async def test_one_healthy_worker_is_enough_and_counts_add_up(registry: Opened):
    await registry.create("main")
    one, other = await registry.register("a", "main"), await registry.register("b", "main")
    await registry.store.report(
        [
            report(one, about("main", health=BrainHealth.FAILING, detail="down")),
            report(other, about("main", health=BrainHealth.HEALTHY)),
        ]
    )
    status = (await registry.store.get_bot("main")).status
    assert (status.state, status.workers, status.brain_health) == (BotState.IDLE, ("a", "b"), BrainHealth.HEALTHY)
    await registry.store.report([report(one, about("main", in_flight=2)), report(other, about("main", in_flight=3))])
    status = (await registry.store.get_bot("main")).status
    assert (status.state, status.in_flight_count, status.worker_count) == (BotState.WORKING, 5, 2)
    await registry.store.report([report(one, leaving=True)])
    assert (await registry.store.get_bot("main")).status.in_flight_count == 3


async def test_two_reports_of_one_worker_in_one_frame_both_count(registry: Opened):
    await registry.create("main")
    registered = await registry.register("w", "main")
    first, second = await registry.store.report(
        [
            report(registered, about("main", in_flight=1), sequence=1),
            report(registered, about("main", in_flight=2), sequence=2, draining=True),
        ]
    )
    assert (first.drain, second.drain) == (False, True)
    assert (await registry.store.get_bot("main")).status.in_flight_count == 2
    assert (await registry.store.get_worker("w")).state is WorkerState.DRAINING


async def test_a_heartbeat_that_says_nothing_new_logs_nothing(registry: Opened):
    await registry.create("main")
    registered = await registry.register("w", "main")
    await registry.store.report([report(registered, about("main"))])
    position = (await registry.store.head()).position
    for _ in range(5):
        registry.clock.advance(timedelta(seconds=1))
        await registry.store.report([report(registered, about("main"))])
    assert (await registry.store.head()).position == position
    status = (await registry.store.get_bot("main")).status
    assert status.report_time == registry.clock.now()
    assert status.since == registry.clock.now() - timedelta(seconds=5)


async def test_the_log_keeps_no_lease_id(registry: Opened):
    await registry.create("main")
    registered = await registry.register("w", "main")
    workers = [c.what.worker for c in await registry.store.changes(0, 10) if isinstance(c.what, WorkerChanged)]
    assert [worker.lease.id for worker in workers] == [""]
    assert registered.worker.lease.id


async def test_a_registration_that_is_refused_leaves_the_earlier_one_alone(registry: Opened):
    await registry.create("main")
    registered = await registry.register("w", "main")
    with pytest.raises(BotNotFound):
        await registry.register("w", "none")
    (renewal,) = await registry.store.report([report(registered)])
    assert renewal.outcome is ReportOutcome.RENEWED


async def test_a_draining_bot_waits_for_every_worker_to_have_reported_since(registry: Opened):
    await registry.create("main")
    one, other = await registry.register("a", "main"), await registry.register("b", "main")
    await registry.store.report([report(one, about("main")), report(other, about("main"))])
    await registry.store.delete_bot("main", "", uid="", drain=DAY, retention=DAY, ticket=NO_TICKET)
    registry.clock.advance(timedelta(seconds=1))
    await registry.store.report([report(one)])
    assert (await registry.store.get_bot("main")).lifecycle is Lifecycle.DRAINING
    await registry.store.report([report(other)])
    gone = await registry.store.get_bot("main")
    assert gone.lifecycle is Lifecycle.DELETED
    assert gone.status.state is BotState.OFFLINE
    assert (await registry.store.get_worker("a")).bots == ()


async def test_a_draining_bot_whose_workers_die_becomes_a_tombstone(registry: Opened):
    await registry.create("main")
    await registry.register("w", "main")
    await registry.store.delete_bot("main", "", uid="", drain=DAY, retention=DAY, ticket=NO_TICKET)
    await registry.pass_time(seconds=16)
    assert (await registry.store.get_bot("main")).lifecycle is Lifecycle.DELETED
    await registry.pass_time(days=1)
    with pytest.raises(BotNotFound):
        await registry.store.get_bot("main")


async def test_leases_that_ran_out_while_nobody_ran_get_another_term(database_url, clock):
    async with opened(database_url, clock) as registry:
        await registry.create("main")
        registered = await registry.register("w", "main")
        await registry.store.report([report(registered, about("main"))])
    clock.advance(timedelta(hours=2))
    async with opened(database_url, clock) as registry:
        assert await state(registry) is BotState.IDLE
        (renewal,) = await registry.store.report([report(registered)])
        assert renewal.outcome is ReportOutcome.RENEWED


async def test_a_lease_that_was_seen_to_end_is_not_forgiven(database_url, clock):
    async with opened(database_url, clock) as registry:
        await registry.register("w")
        await registry.pass_time(seconds=20)
    async with opened(database_url, clock) as registry:
        assert (await registry.store.get_worker("w")).state is WorkerState.OFFLINE


async def test_a_worker_reports_about_many_bots_at_once(registry: Opened):
    names = [f"b{number}" for number in range(90)]
    for name in names:
        await registry.create(name)
    registered = await registry.register("w", *names)
    await registry.store.report([report(registered, *(about(name) for name in names))])
    page = await registry.store.list_bots(
        BotFilter(states=frozenset({BotState.IDLE})), order="name", descending=False, size=100, after=()
    )
    assert page.total_count == 90
    statuses = [c for c in await registry.store.changes(90, 1000) if isinstance(c.what, StatusChanged)]
    assert len(statuses) == 180


async def test_workers_page_by_id(registry: Opened):
    for worker_id in ("b", "a", "C"):
        await registry.register(worker_id)
    first = await registry.store.list_workers(WorkerFilter(), size=2, after=())
    rest = await registry.store.list_workers(WorkerFilter(), size=2, after=first.next)
    assert [worker.id for worker in (*first.items, *rest.items)] == ["C", "a", "b"]
    assert rest.next == ()
