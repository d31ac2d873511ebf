"""What has to be known of a scope before a query is embedded for it."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select, text

from memory_service.domain.embedder import VectorSet
from memory_service.domain.ranking import named_authors
from memory_service.domain.search import Scope
from memory_service.domain.selection import MemoryFilter
from memory_service.models import MEMORY
from memory_service.store import vectors
from memory_service.store.selecting import conditions_of
from memory_service.store.transaction import Namespace, read_namespace
from memory_service.store.transactions import Transactions

_MAX_AUTHORS = 500
_FEW_AUTHORS = 64
"""So many are remembered, and looked for in a query on the loop."""
_REMEMBERED = 1_024
# Steps from each author to the next by the index, without reading the memories of any.
_AUTHORS = text(
    "WITH RECURSIVE step(author) AS ("
    "SELECT (SELECT min(author) FROM memory WHERE namespace = :namespace AND author <> '') "
    "UNION ALL SELECT (SELECT min(author) FROM memory WHERE namespace = :namespace AND author <> '' "
    "AND author > step.author) FROM step WHERE step.author IS NOT NULL) "
    f"SELECT author FROM step WHERE author IS NOT NULL LIMIT {_MAX_AUTHORS}"
)


@dataclass(frozen=True, slots=True)
class Ground:
    """`authors` are those whom the query names."""

    vectors: VectorSet | None
    authors: tuple[str, ...]
    live_count: int


class Grounds:
    """Remembers the authors of the namespaces that were asked for lately, each as of one revision.

    On SQLite what is remembered spares a thread and back: the rest is two rows, which are read on the loop.
    """

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._database = transactions.database
        self._authors: OrderedDict[int, tuple[int, tuple[str, ...]]] = OrderedDict()

    async def read(self, scopes: Sequence[Scope], query: str) -> list[Ground]:
        """One for each scope, all as of one moment. Without a query no authors are looked for."""
        if self._database.engine_name == "sqlite":
            known = await self._database.glance(lambda conn: [self._known(conn, scope, query) for scope in scopes])
            found = [each for each in known if each is not None]
            if len(found) == len(scopes):
                return found
        now = self._transactions.now()
        read = await self._database.read(lambda conn: [_ground(conn, scope, query, now) for scope in scopes])
        if query:
            for scope, (namespace, authors, _) in zip(scopes, read, strict=True):
                if not _is_lent(scope):
                    self._remember(namespace, authors)
        return [ground for _, _, ground in read]

    def _known(self, conn: Connection, scope: Scope, query: str) -> Ground | None:
        namespace = read_namespace(conn, scope.bot)
        if not namespace.live_count:
            return Ground(None, (), 0)
        named: tuple[str, ...] = ()
        if query:
            if _is_lent(scope):
                return None
            revision, authors = self._authors.get(namespace.key, (-1, ()))
            if revision != namespace.revision:
                return None
            named = named_authors(query, authors)
        return Ground(vectors.serving_set(conn, namespace.key), named, namespace.live_count)

    def _remember(self, namespace: Namespace, authors: tuple[str, ...]) -> None:
        if namespace.live_count and len(authors) <= _FEW_AUTHORS:
            self._authors[namespace.key] = (namespace.revision, authors)
            self._authors.move_to_end(namespace.key)
            if len(self._authors) > _REMEMBERED:
                self._authors.popitem(last=False)


def _is_lent(scope: Scope) -> bool:
    return scope.selected.slices is not None


def _ground(conn: Connection, scope: Scope, query: str, now: datetime) -> tuple[Namespace, tuple[str, ...], Ground]:
    """With the namespace and all its authors; through grants those of what is lent, or scores would tell of others."""
    namespace = read_namespace(conn, scope.bot)
    if not namespace.live_count:
        return namespace, (), Ground(None, (), 0)
    authors: tuple[str, ...] = ()
    if query and _is_lent(scope):
        lent = conditions_of(MemoryFilter(slices=scope.selected.slices), now)
        mine = (MEMORY.c.namespace == namespace.key, MEMORY.c.author != "")
        some = select(MEMORY.c.author).where(*mine, *lent).distinct().order_by(MEMORY.c.author).limit(_MAX_AUTHORS)
        authors = tuple(conn.execute(some).scalars())
    elif query:
        authors = tuple(conn.execute(_AUTHORS, {"namespace": namespace.key}).scalars())
    serving = vectors.serving_set(conn, namespace.key)
    return namespace, authors, Ground(serving, named_authors(query, authors), namespace.live_count)
