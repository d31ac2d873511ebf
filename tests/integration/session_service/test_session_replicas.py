"""Several replicas on one PostgreSQL database: one order for all, and nobody works from stale memory."""

import asyncio

import pytest
from session_stores import append, draft, message, name, open_store

from chassis.upgrading import autogenerate_diff, upgrade_database
from session_service.__main__ import MIGRATIONS
from session_service.domain import errors
from session_service.feed.hub import Hub
from session_service.feed.subscription import WatchQuery
from session_service.feed.watch import Patience, Watch
from session_service.models import METADATA
from session_service.store import changing


@pytest.fixture
async def replicas(postgresql_url, clock):
    stores = [await open_store(postgresql_url, clock) for _ in range(2)]
    yield stores
    for store in stores:
        await store.close()


async def test_replicas_that_write_at_the_same_time_make_one_dense_log(replicas):
    await asyncio.gather(
        *(
            store.append(append(f"s{number % 3}", message(f"{which}-{number}")))
            for which, store in enumerate(replicas)
            for number in range(40)
        )
    )
    found = await replicas[0].read_log(0, limit=1000)
    assert [event.position for event in found.events] == list(range(1, 84))
    sequences: dict[str, list[int]] = {}
    for event in found.events:
        sequences.setdefault(event.session_id, []).append(event.sequence)
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in sequences.values())


async def test_a_replica_notices_what_the_other_did_to_a_session_it_remembers(replicas):
    here, there = replicas
    await here.append(append("a", message("1"), epoch=1))
    await there.append(append("a", message("2"), epoch=2))
    with pytest.raises(errors.Fenced):
        await here.append(append("a", message("3"), epoch=1))
    await there.write(
        lambda tx: changing.delete_session(tx, name("a"), changing.Expected(), "x", retention_us=0, allow_missing=False)
    )
    with pytest.raises(errors.SessionDeleted):
        await here.append(append("a", message("3"), epoch=2))
    await there.write(lambda tx: changing.undelete_session(tx, name("a"), "x"))
    assert list((await here.append(append("a", message("2"), message("3"), epoch=2))).sequences) == [3, 7]


async def test_a_watch_sees_the_writes_of_all_replicas_once_and_in_order(replicas):
    here, there = replicas
    hub = Hub(here, queue_events=16, poll_interval_s=0.02)
    here.listen(hub)
    await hub.start()
    watch = Watch(hub, here, WatchQuery(), start=0, snapshot=False, checkpoint_s=30, patience=Patience())
    total = 60

    async def write(store, which):
        for number in range(total):
            await store.append(append("a", message(f"{which}-{number}")))

    positions: list[int] = []

    async def read():
        async for frame in watch:
            positions.extend(event.position for event in frame.events)
            assert frame.position >= (positions[-1] if positions else 0)
            if len(positions) == 2 * total + 1:
                return

    async with asyncio.timeout(40), asyncio.TaskGroup() as tasks:
        tasks.create_task(read())
        tasks.create_task(write(here, "here"))
        tasks.create_task(write(there, "there"))
    assert positions == list(range(1, 2 * total + 2))
    await hub.close()


async def test_two_replicas_create_a_session_once(replicas):
    async def create(store):
        return await store.write(
            lambda tx: changing.create_session(tx, draft("a"), "operators/root", policy="USE_EXISTING")
        )

    first, second = await asyncio.gather(*(create(store) for store in replicas))
    assert {first.created, second.created} == {True, False}
    assert first.session.head.uid == second.session.head.uid


def test_the_models_and_the_migrations_agree(database_url):
    upgrade_database(database_url, MIGRATIONS)
    assert autogenerate_diff(database_url, METADATA) == []
