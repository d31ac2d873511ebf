"""A service with fault points: `python -m ledger.mobot.service session` is `python -m session_service`, but at
SIGUSR1 it reads an order from the file that LEDGER_ORDERS names.

Orders, as JSON: {"point": "before" | "after", "commits": N} kills the process at the Nth commit from now, before or
after it reached the disk; {"clock_offset_s": N} makes its clock wrong by so much.
"""

import json
import os
import runpy
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from chassis.clock import SystemClock
from chassis.database import Database


class Orders:
    """What was ordered last."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._point = ""
        self._commits = 0
        self.offset = timedelta()

    def read(self, *_: object) -> None:
        order: dict[str, Any] = json.loads(self._path.read_bytes())
        self._point, self._commits = order.get("point", ""), order.get("commits", 0)
        self.offset = timedelta(seconds=order.get("clock_offset_s", 0))

    def at_commit(self, point: Literal["before", "after"]) -> None:
        if point == self._point:
            self._commits -= 1
            if self._commits <= 0:
                os.kill(os.getpid(), signal.SIGKILL)


def main(name: str) -> None:
    orders = Orders(Path(os.environ["LEDGER_ORDERS"]))
    signal.signal(signal.SIGUSR1, orders.read)
    opened = Database.open

    async def open_with_points(_cls: type[Database], *args: Any, **options: Any) -> Database:  # noqa: ANN401
        return await opened(*args, **{**options, "commit_hook": orders.at_commit})

    # The two seams are parameters of every service's parts, but its composition is the thing under test: it stays.
    Database.open = classmethod(open_with_points)  # type: ignore[assignment]

    def now(_clock: SystemClock) -> datetime:
        return datetime.now(UTC) + orders.offset

    SystemClock.now = now  # type: ignore[method-assign,assignment]
    sys.argv = [f"{name}_service"]
    runpy.run_module(f"{name}_service", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1])
