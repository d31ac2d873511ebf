"""Time at work: warnings, archiving and purging, on both engines, broken off and gone on with."""

import asyncio
from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry
from session_stores import append, draft, finished, message, name, open_store, started

from session_service.domain.event import EventKind
from session_service.domain.rules import Rules
from session_service.domain.session import Fields, SessionState
from session_service.operations.metrics import SweepMetrics
from session_service.operations.sweeper import Sweeper, Swept
from session_service.store import changing, purging
from session_service.store.log import EventFilter
from session_service.store.transaction import micros

HOUR = 3_600_000_000
DAY = 24 * HOUR
RULES = Rules(idle_ttl=10 * DAY, expiry_warning=2 * DAY)
NOTHING = Swept(0, 0, 0, 0)


@pytest.fixture
async def idle_store(database_url, clock):
    store = await open_store(database_url, clock, rules=RULES)
    yield store
    await store.close()


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
def sweeper(idle_store, registry):
    return Sweeper(idle_store, SweepMetrics(registry), interval_s=3_600)


async def create(store, session_id, **fields):
    return (
        await store.write(lambda tx: changing.create_session(tx, draft(session_id, **fields), "x", policy="FAIL"))
    ).session


async def kinds(store, session_id):
    page = await store.list_events(name(session_id), EventFilter(uid="*"), size=100, max_bytes=1 << 20)
    return [EventKind(event.kind) for event in page.events]


async def delete(store, session_id, retention_us=0):
    await store.write(
        lambda tx: changing.delete_session(
            tx, name(session_id), changing.Expected(), "x", retention_us=retention_us, allow_missing=False
        )
    )


async def test_an_idle_session_is_warned_of_and_archived_later(idle_store, sweeper, clock, registry):
    await create(idle_store, "a")
    clock.advance(timedelta(days=7))
    assert await sweeper.sweep() == NOTHING
    clock.advance(timedelta(days=1))
    assert await sweeper.sweep() == Swept(1, 0, 0, 0)
    assert await sweeper.sweep() == NOTHING  # warned of once
    clock.advance(timedelta(days=2))
    assert await sweeper.sweep() == Swept(0, 1, 0, 0)
    assert await kinds(idle_store, "a") == [
        EventKind.SESSION_CREATED,
        EventKind.EXPIRY_WARNED,
        EventKind.SESSION_ARCHIVED,
    ]
    session = await idle_store.get_session(name("a"))
    assert session.head.state is SessionState.ARCHIVED
    assert registry.get_sample_value("mobot_session_swept_total", {"sweep": "archive"}) == 1
    assert registry.get_sample_value("mobot_session_sweep_finished_seconds") == clock.now().timestamp()


async def test_who_comes_back_in_time_is_warned_of_anew(idle_store, sweeper, clock):
    await create(idle_store, "a")
    clock.advance(timedelta(days=9))
    assert (await sweeper.sweep()).warned == 1
    await idle_store.append(append("a", message("m1")))
    clock.advance(timedelta(days=3))
    assert await sweeper.sweep() == NOTHING
    clock.advance(timedelta(days=6))
    assert await sweeper.sweep() == Swept(1, 0, 0, 0)


async def test_a_warning_always_comes_its_time_before(idle_store, sweeper, clock):
    """Also when the service was away while it was due."""
    await create(idle_store, "a")
    clock.advance(timedelta(days=100))
    assert await sweeper.sweep() == Swept(1, 0, 0, 0)
    clock.advance(timedelta(hours=47))
    assert await sweeper.sweep() == NOTHING
    clock.advance(timedelta(hours=1))
    assert await sweeper.sweep() == Swept(0, 1, 0, 0)
    # Taken out of the archive, it is not put back at once.
    await idle_store.write(lambda tx: changing.unarchive_session(tx, name("a"), "x"))
    assert await sweeper.sweep() == Swept(1, 0, 0, 0)


async def test_protected_pinned_main_and_working_sessions_stay(idle_store, sweeper, clock):
    await create(idle_store, "kept", label="Kept", persistent=True, expire_time=micros(clock.now()) + DAY)
    await create(idle_store, "pinned", pinned=True)
    await create(idle_store, "main")
    await idle_store.append(append("busy", started("r1")))
    clock.advance(timedelta(days=50))
    assert (await sweeper.sweep()).warned == 1  # the one at work
    clock.advance(timedelta(days=50))
    assert await sweeper.sweep() == NOTHING
    await idle_store.append(append("busy", finished("r1")))
    assert await sweeper.sweep() == NOTHING
    clock.advance(timedelta(days=50))
    assert (await sweeper.sweep()).warned == 1
    for session_id in ("kept", "pinned", "main"):
        assert (await idle_store.get_session(name(session_id))).head.state is SessionState.ACTIVE


async def test_an_expiry_of_its_own_counts_and_can_be_put_off(idle_store, sweeper, clock):
    await create(idle_store, "a", expire_time=micros(clock.now()) + DAY)
    assert (await sweeper.sweep()).warned == 1
    later = micros(clock.now()) + 5 * DAY
    await idle_store.write(lambda tx: changing.update_session(tx, name("a"), lambda _: Fields(expire_time=later), "x"))
    clock.advance(timedelta(days=2, hours=1))
    assert await sweeper.sweep() == NOTHING
    clock.advance(timedelta(days=1))
    assert (await sweeper.sweep()).warned == 1
    clock.advance(timedelta(days=2))
    assert (await sweeper.sweep()).archived == 1


async def test_many_are_done_in_batches(idle_store, sweeper, clock):
    def fill(tx):
        for number in range(250):
            changing.create_session(tx, draft(f"s{number}"), "x", policy="FAIL")
            tx.flush()

    await idle_store.write(fill)
    clock.advance(timedelta(days=9))
    assert (await sweeper.sweep()).warned == 250
    clock.advance(timedelta(days=2))
    assert (await sweeper.sweep()).archived == 250


async def test_what_was_deleted_long_ago_is_purged_a_long_log_in_steps(idle_store, sweeper, clock):
    await create(idle_store, "later")
    count = purging.MAX_EVENTS_AT_ONCE + 10
    for start in range(0, count, 1_000):
        await idle_store.append(append("long", *(message(f"m{start + number}") for number in range(1_000))))
    await delete(idle_store, "long", retention_us=DAY)
    await delete(idle_store, "later", retention_us=3 * DAY)
    assert await sweeper.sweep() == NOTHING
    clock.advance(timedelta(days=1))
    # Broken off after the first step: the session is gone, the rest of its log is not to be seen and waits.
    assert await idle_store.write(lambda tx: purging.purge_if_due(tx, name("long")))
    assert (await idle_store.read_log(0, limit=10)).events[0].session_id != "long"
    fresh = await create(idle_store, "long")
    assert fresh.head.last_sequence == 1
    swept = await sweeper.sweep()
    assert swept.removed >= 1
    assert await sweeper.sweep() == NOTHING
    assert (await idle_store.get_session(name("long"))).head.pk == fresh.head.pk
    clock.advance(timedelta(days=2))
    assert (await sweeper.sweep()).purged == 1


async def test_a_session_that_was_deleted_again_meanwhile_is_not_purged_before_its_time(idle_store, clock):
    await create(idle_store, "a")
    await delete(idle_store, "a", retention_us=DAY)

    async def purged() -> bool:
        return await idle_store.write(lambda tx: purging.purge_if_due(tx, name("a")))

    assert not await purged()
    assert (await idle_store.get_session(name("a"))).head.state is SessionState.DELETED
    clock.advance(timedelta(days=1))
    assert await purged()


async def test_an_undeleted_session_is_not_purged(idle_store, sweeper, clock):
    await create(idle_store, "a")
    await delete(idle_store, "a", retention_us=DAY)
    await idle_store.write(lambda tx: changing.undelete_session(tx, name("a"), "x"))
    clock.advance(timedelta(days=2))
    assert await sweeper.sweep() == NOTHING
    assert (await idle_store.get_session(name("a"))).head.state is SessionState.ACTIVE


async def test_it_sweeps_by_itself_from_the_start(idle_store, registry, clock):
    await create(idle_store, "a")
    await delete(idle_store, "a")
    sweeper = Sweeper(idle_store, SweepMetrics(registry), interval_s=0.001)
    sweeper.start()
    while await idle_store.find_sessions([name("a")]):  # noqa: ASYNC110 - the sweeper tells nobody
        await asyncio.sleep(0)  # a read on the loop lets nothing else run
    await sweeper.close()
