"""Doorbells for watches: which messages the commits of this process have changed."""

import asyncio
from collections.abc import Callable, Iterable

from chassis.waiting import within


class Watcher:
    """The changes that one watch has not looked at yet, in order; `overflowed` when there were too many."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.overflowed = False
        self._pending: dict[str, None] = {}
        self._bell = asyncio.Event()

    def note(self, ids: Iterable[str]) -> None:
        self._pending.update(dict.fromkeys(ids))
        if len(self._pending) > self._limit:
            self.overflowed = True
            self._pending.clear()
        self._bell.set()

    def ring(self) -> None:
        self._bell.set()

    async def wait(self, timeout_s: float) -> list[str]:
        """The ids that changed; empty when nothing did in time."""
        await within(timeout_s, self._bell.wait())
        self._bell.clear()
        ids = list(self._pending)
        self._pending.clear()
        return ids


class Changes:
    """The watches of this process. `watched` is told whether there are any: nothing is collected for nobody.

    `limit`: how many changed messages a watch may lag behind.
    """

    def __init__(self, watched: Callable[[bool], None], limit: int) -> None:
        self.limit = limit
        self.ended = False
        self._watched = watched
        self._watchers: set[Watcher] = set()

    def add(self) -> Watcher:
        watcher = Watcher(self.limit)
        self._watchers.add(watcher)
        self._watched(True)
        return watcher

    def remove(self, watcher: Watcher) -> None:
        self._watchers.discard(watcher)
        self._watched(bool(self._watchers))

    def note(self, ids: Iterable[str]) -> None:
        for watcher in self._watchers:
            watcher.note(ids)

    def end(self) -> None:
        """Ends all watches."""
        self.ended = True
        for watcher in self._watchers:
            watcher.ring()
