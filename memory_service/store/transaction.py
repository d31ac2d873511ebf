"""One write, and the namespaces it works on."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, insert, select, update

from chassis import direct_sql
from memory_service.domain.errors import NamespaceErasing
from memory_service.models import NAMESPACE

_FIND_SQLITE = "SELECT pk, bot, revision, live_count, deleted_count, word_count, erasing FROM namespace WHERE bot = ?"
_SAVE_SQLITE = (
    "UPDATE namespace SET revision = ?, live_count = ?, deleted_count = ?, word_count = ?, erasing = ? WHERE pk = ?"
)


@dataclass(slots=True)
class Namespace:
    """A bot's namespace during one transaction. Writes change the counts; the row follows at the end."""

    key: int
    bot: str
    revision: int
    live_count: int
    deleted_count: int
    word_count: int
    erasing: str = ""

    @property
    def size(self) -> int:
        return self.live_count + self.deleted_count


NOWHERE = Namespace(0, "", 0, 0, 0, 0)
"""The namespace of a bot of which nothing was ever remembered."""


class Transaction:
    """Locks each namespace it opens until the commit, so that its counts and its dedupe hold also when replicas write.

    Nothing of a namespace may be read, on which a write depends, before it is open.
    """

    def __init__(self, conn: Connection, now: datetime, *, new_id: Callable[[], str], retention: timedelta) -> None:
        self.conn = conn
        self.now = now
        self.new_id = new_id
        self.retention = retention
        self._open: dict[str, Namespace] = {}
        self._changed: set[str] = set()

    def find(self, bot: str) -> Namespace | None:
        """The bot's namespace, locked; None when nothing was ever remembered in it.

        Raises:
            NamespaceErasing: it is being erased, so that nothing may be written to it.
        """
        found = self.find_erasing(bot)
        if found is not None and found.erasing:
            raise NamespaceErasing(bot, f"bots/{bot}/operations/{found.erasing}")
        return found

    def find_erasing(self, bot: str) -> Namespace | None:
        """The same for whoever erases it, or begins or gives up to."""
        if bot not in self._open:
            found = _read(self.conn, bot, lock=True)
            if found is None:
                return None
            self._open[bot] = found
        return self._open[bot]

    def ensure(self, bot: str) -> Namespace:
        """The bot's namespace, locked; made when there is none. Raises: NamespaceErasing."""
        self.find(bot)
        return self.ensure_erasing(bot)

    def ensure_erasing(self, bot: str) -> Namespace:
        """The same for whoever begins to erase it."""
        found = self.find_erasing(bot)
        if found is None:
            self.conn.execute(
                _insert_unless_there(self.conn),
                {"bot": bot, "revision": 0, "live_count": 0, "deleted_count": 0, "word_count": 0},
            )
            found = self.find_erasing(bot)
            assert found is not None
        return found

    def mark_changed(self, namespace: Namespace) -> None:
        """Something in the namespace changes with this transaction."""
        if namespace.bot not in self._changed:
            self._changed.add(namespace.bot)
            namespace.revision += 1

    def finish(self) -> None:
        """Writes the changed namespaces; the last step."""
        for namespace in self._changed_namespaces():
            if self.conn.dialect.name == "sqlite":
                _save_on_sqlite(self.conn, namespace)
                continue
            self.conn.execute(
                update(NAMESPACE)
                .where(NAMESPACE.c.pk == namespace.key)
                .values(
                    revision=namespace.revision,
                    live_count=namespace.live_count,
                    deleted_count=namespace.deleted_count,
                    word_count=namespace.word_count,
                    erasing=namespace.erasing,
                )
            )

    def _changed_namespaces(self) -> Iterable[Namespace]:
        return (self._open[bot] for bot in sorted(self._changed))


def read_namespace(conn: Connection, bot: str) -> Namespace:
    """For reading only; NOWHERE when there is none, or none any more because it is being erased."""
    found = _read(conn, bot, lock=False)
    return NOWHERE if found is None or found.erasing else found


def _read(conn: Connection, bot: str, *, lock: bool) -> Namespace | None:
    if conn.dialect.name == "sqlite":
        rows = direct_sql.fetch(conn, _FIND_SQLITE, (bot,))
        return Namespace(*rows[0]) if rows else None
    columns = NAMESPACE.c
    query = select(
        columns.pk,
        columns.bot,
        columns.revision,
        columns.live_count,
        columns.deleted_count,
        columns.word_count,
        columns.erasing,
    ).where(columns.bot == bot)
    row = conn.execute(query.with_for_update() if lock else query).one_or_none()
    return None if row is None else Namespace(*row)


def _save_on_sqlite(conn: Connection, namespace: Namespace) -> None:
    counts = (namespace.live_count, namespace.deleted_count, namespace.word_count)
    direct_sql.run(conn, _SAVE_SQLITE, (namespace.revision, *counts, namespace.erasing, namespace.key))


def _insert_unless_there(conn: Connection) -> Any:  # noqa: ANN401 - each dialect has an insert of its own
    if conn.dialect.name == "sqlite":
        return insert(NAMESPACE)  # its transactions take turns
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(NAMESPACE).on_conflict_do_nothing(index_elements=["bot"])
