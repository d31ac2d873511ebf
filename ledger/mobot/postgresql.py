"""mobot on PostgreSQL, whose server dies too."""

from pathlib import Path

from ledger.mobot.system import SERVICES, Mobot
from ledger.model import Fault
from ledger.postgres import Postgres


def make(directory: Path) -> "MobotOnPostgresql":
    """The adapter, with its data in `directory`."""
    return MobotOnPostgresql(directory)


class MobotOnPostgresql(Mobot):
    """A database for each service on one server."""

    name = "mobot, isolated layout, PostgreSQL"
    # The server's files have many writers: a quota on one of its processes is no full disk.
    faults = frozenset(Fault) - {Fault.DISK_FULL}

    def __init__(self, directory: Path) -> None:
        self._postgres = Postgres(SERVICES, directory)
        urls = {f"MOBOT_{name.upper()}_DATABASE_URL": self._postgres.url(name) for name in SERVICES}
        super().__init__(directory, settings=urls)

    async def start(self) -> None:
        self._postgres.kept.start()
        await super().start()

    async def stop(self) -> None:
        await super().stop()
        await self._postgres.stop()

    async def strike(self, fault: Fault, amount: int) -> None:
        if fault is Fault.DATABASE_RESTART:
            self._postgres.crash()
        else:
            await super().strike(fault, amount)
