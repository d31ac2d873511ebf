"""Callers that wait for runs to end."""

import asyncio
from collections.abc import Iterable


class RunWaiters:
    """A bell for each run that somebody waits for."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}

    def add(self, run: str) -> asyncio.Event:
        """An event that is set when the run has ended, as far as this process learns of it."""
        event = asyncio.Event()
        self._waiting.setdefault(run, set()).add(event)
        return event

    def remove(self, run: str, event: asyncio.Event) -> None:
        events = self._waiting.get(run)
        if events is not None:
            events.discard(event)
            if not events:
                del self._waiting[run]

    def notify(self, run: str) -> None:
        for event in self._waiting.get(run, ()):
            event.set()

    def notify_all(self) -> None:
        """Wakes everybody, who then look for themselves."""
        for run in list(self._waiting):
            self.notify(run)

    def runs(self) -> Iterable[str]:
        return list(self._waiting)
