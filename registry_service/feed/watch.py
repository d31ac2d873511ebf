"""One watcher: a snapshot or a token, then every change after it, from memory or from the log."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import replace

from registry_service.domain.bot import Bot
from registry_service.domain.change import (
    BotChanged,
    BotRemoved,
    Change,
    Frame,
    Phase,
    StatusChanged,
    WatchOrder,
    WorkerChanged,
    WorkerRemoved,
)
from registry_service.domain.errors import SlowConsumer, WatchTokenInvalid, WatchTokenTooOld
from registry_service.domain.selection import BotFilter
from registry_service.feed.tail import Tail
from registry_service.store.registry import RegistryStore


class Watch:
    """The frames of one watch. `token` makes a resume token of a log position."""

    def __init__(self, store: RegistryStore, tail: Tail, order: WatchOrder, token: Callable[[int], str]) -> None:
        self._store = store
        self._tail = tail
        self._order = order
        self._token = token
        self._view = _View(order)
        self._position = 0

    async def frames(self) -> AsyncGenerator[Frame, None]:
        """Endless.

        Raises:
            WatchTokenInvalid, WatchTokenTooOld, SlowConsumer: as WatchBots documents.
            Unavailable: DRAINING.
        """
        for frame in await self._beginning():
            yield frame
        order, time = self._order, asyncio.get_running_loop().time
        spoke = time()
        while True:
            await self._tail.wait(self._position, max(0.0, spoke + order.checkpoint_s - time()))
            self._tail.check_open()
            changes = await self._next_changes()
            shown = await self._shown(changes)
            if changes:
                self._position = changes[-1].position
            behind = self._tail.position - self._position
            if shown:
                yield Frame(Phase.CHANGES, tuple(shown), self._position)
            elif time() >= spoke + order.checkpoint_s:
                yield Frame(Phase.CHECKPOINT, (), self._position)
            else:
                continue
            spoke = time()
            # What came while the client took the frame counts against it; a replay or one large write does not.
            queued = self._tail.position - self._position
            if queued > max(order.window, behind):
                raise SlowConsumer(queued, self._token(self._position))

    async def _beginning(self) -> Sequence[Frame]:
        after = self._order.after
        if after is None:
            return await self._snapshot()
        head = await self._store.head()
        if after > head.position:
            raise WatchTokenInvalid("names a revision that does not exist yet")
        if after >= head.compacted:
            self._position = after
            return ()
        if self._order.fail_when_too_old:
            raise WatchTokenTooOld(head.compacted + 1)
        return (Frame(Phase.RESET), *await self._snapshot())

    async def _snapshot(self) -> Sequence[Frame]:
        snapshot = await self._store.snapshot(self._order.selected, workers=self._order.workers)
        changes = [Change(0, bot.update_time, BotChanged(bot)) for bot in snapshot.bots]
        changes += [Change(0, each.report_time or each.create_time, WorkerChanged(each)) for each in snapshot.workers]
        self._view.begin([bot.name for bot in snapshot.bots] + [worker.name for worker in snapshot.workers])
        self._position = snapshot.position
        size = self._order.max_batch
        parts = [tuple(changes[start : start + size]) for start in range(0, len(changes), size)] or [()]
        frames = [Frame(Phase.SNAPSHOT, part) for part in parts[:-1]]
        return [*frames, Frame(Phase.SNAPSHOT_END, parts[-1], snapshot.position)]

    async def _next_changes(self) -> Sequence[Change]:
        changes = self._tail.changes(self._position, self._order.max_batch)
        if changes is None:
            changes = await self._store.changes(self._position, self._order.max_batch)
            if changes and changes[0].position != self._position + 1:
                # It read so slowly that what it had yet to read was compacted away; coming back it gets a reset.
                raise SlowConsumer(self._tail.position - self._position, self._token(self._position))
        return changes

    async def _shown(self, changes: Sequence[Change]) -> list[Change]:
        """What the client is told of `changes`: those its filter selects, and what left the filter as removed."""
        doubtful = [bot for bot in map(self._view.needed_bot, changes) if bot is not None]
        bots = await self._store.find_bots(doubtful) if doubtful else {}
        told = (self._view.tell(change, bots) for change in changes)
        return [change for change in told if change is not None]


class _View:
    """What the client knows: tells a change that enters, stays in or leaves what it watches.

    After a resume it is not known which bots the client had; then one that does not match is told as removed, once.
    """

    def __init__(self, order: WatchOrder) -> None:
        self._selected = order.selected
        self._workers = order.workers
        self._every_bot = order.selected in (BotFilter(), BotFilter(show_deleted=True))
        self._complete = False
        self._shown: set[str] = set()
        self._hidden: set[str] = set()

    def begin(self, names: Sequence[str]) -> None:
        """The client has got a snapshot with `names`, and knows nothing else."""
        self._complete = True
        self._shown = set(names)

    def needed_bot(self, change: Change) -> str | None:
        """The id of the bot, when its status can be told only with the rest of the bot at hand."""
        if not isinstance(change.what, StatusChanged) or self._every_bot:
            return None
        needed = self._selected.states or self._unknown(f"bots/{change.what.bot}")
        return change.what.bot if needed else None

    def tell(self, change: Change, bots: Mapping[str, Bot]) -> Change | None:
        """The change as the client is to get it, or None. `bots` are those of `needed_bot`, as they are now."""
        match change.what:
            case BotChanged(bot):
                return self._tell(change, bot.name, BotRemoved(bot.id), selected=self._selected.selects(bot))
            case StatusChanged(bot_id):
                return self._tell_status(change, change.what, bots.get(bot_id))
            case BotRemoved(bot_id):
                return self._tell(change, f"bots/{bot_id}", change.what, selected=False)
            case WorkerChanged(worker):
                selected = self._workers and self._selected.selects_worker(worker)
                return self._tell(change, worker.name, WorkerRemoved(worker.id), selected=selected)
            case WorkerRemoved(worker_id):
                return self._tell(change, f"workers/{worker_id}", change.what, selected=False)

    def _tell(self, change: Change, name: str, removed: BotRemoved | WorkerRemoved, *, selected: bool) -> Change | None:
        if isinstance(removed, WorkerRemoved) and not self._workers:
            return None
        if selected:
            self._shown.add(name)
            self._hidden.discard(name)
            return change
        known = name in self._shown or self._unknown(name)
        self._shown.discard(name)
        self._hidden.add(name)
        return Change(change.position, change.time, removed) if known else None

    def _tell_status(self, change: Change, what: StatusChanged, bot: Bot | None) -> Change | None:
        name = f"bots/{what.bot}"
        if self._every_bot:
            return change
        if bot is None:
            return change if name in self._shown else None
        then = replace(bot, status=what.status)
        selected = self._selected.selects(then)
        if selected and name not in self._shown:
            change = Change(change.position, change.time, BotChanged(then))
        return self._tell(change, name, BotRemoved(what.bot), selected=selected)

    def _unknown(self, name: str) -> bool:
        return not self._complete and name not in self._shown and name not in self._hidden
