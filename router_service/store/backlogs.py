"""How many messages wait for each bot: counted once, and from then on kept up with what transactions change."""

from collections.abc import Iterable
from typing import Final

from sqlalchemy import func, select

from router_service.models import MAILBOX
from router_service.store.work import Work

# Where other replicas write as well, a count is made anew when it is older than this.
_MAX_AGE_US: Final = 1_000_000
_MAX_BOTS: Final = 10_000


class Backlogs:
    """Belongs to the mail handler, and is called where that one runs."""

    def __init__(self, *, single_process: bool) -> None:
        self._single_process = single_process
        self._counts: dict[str, tuple[int, int]] = {}

    def load(self, work: Work, bots: Iterable[str]) -> None:
        """Tells the transaction what waits for these bots. Comes before it changes anything."""
        for bot in bots:
            known = self._counts.get(bot)
            if known is None or not (self._single_process or 0 <= work.now_us - known[1] <= _MAX_AGE_US):
                columns = MAILBOX.c
                waiting = select(func.coalesce(func.sum(columns.queued + columns.waiting), 0))
                count = work.conn.execute(waiting.where(columns.bot == bot)).scalar_one()
                if len(self._counts) >= _MAX_BOTS:
                    self._counts.clear()
                known = self._counts[bot] = (int(count), work.now_us)
            work.backlogs[bot] = known[0]

    def keep(self, work: Work) -> None:
        """Takes over what the transaction has changed."""
        for bot, change in work.backlog_changes.items():
            known = self._counts.get(bot)
            if known is not None:
                self._counts[bot] = (known[0] + change, known[1])

    def forget(self) -> None:
        """What was taken over last was not committed."""
        self._counts.clear()
