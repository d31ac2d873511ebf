"""A watch and what comes in the very moment in which it would show that nothing comes."""

import asyncio

import pytest

from session_service.domain.event import EventKind, StoredEvent
from session_service.feed.hub import Hub
from session_service.feed.subscription import WatchQuery
from session_service.feed.watch import Patience, Watch
from session_service.store.log import LogRange, LogSlice

UID = "u"


class Log:
    """A log that is read only from where a watcher fell behind."""

    def __init__(self):
        self.events = []

    async def log_range(self):
        return LogRange(0, 0)

    async def read_log(self, after, **_):
        return LogSlice([event for event in self.events if event.position > after], len(self.events))


def event(position):
    return StoredEvent(position, 1, "main", "desk", position, UID, EventKind.MESSAGE, "", 0, b"x")


async def waiting(watch):
    """A frame that is waited for, and the subscription that waits."""
    frame = asyncio.ensure_future(anext(watch))
    while watch._subscription is None or watch._subscription._waiter is None:  # noqa: ASYNC110
        await asyncio.sleep(0)
    return frame, watch._subscription


@pytest.mark.parametrize("queue_events", [100, 1], ids=["queued", "to be read from the log"])
async def test_what_comes_as_the_time_of_a_checkpoint_is_up_is_shown(queue_events):
    log = Log()
    hub = Hub(log, queue_events=queue_events, poll_interval_s=None)
    watch = Watch(
        hub, log, WatchQuery(), start=None, snapshot=False, checkpoint_s=3600.0, patience=Patience(60.0, 1_000)
    )
    async with asyncio.timeout(30):
        assert (await anext(watch)).caught_up
        frame, subscription = await waiting(watch)
        # In one round of the loop: the time is up, and before the watcher hears of it something is committed.
        subscription._give_up()
        log.events = [event(1), event(2)]
        hub.committed(log.events, ())
        shown = await frame
    assert [each.position for each in shown.events] == [1, 2]
    assert (shown.position, shown.checkpoint) == (2, False)
    watch.close()


async def test_silence_is_shown_by_a_checkpoint():
    log = Log()
    hub = Hub(log, queue_events=100, poll_interval_s=None)
    watch = Watch(
        hub, log, WatchQuery(), start=None, snapshot=False, checkpoint_s=3600.0, patience=Patience(60.0, 1_000)
    )
    async with asyncio.timeout(30):
        await anext(watch)
        frame, subscription = await waiting(watch)
        subscription._give_up()
        assert (await frame).checkpoint
    watch.close()
