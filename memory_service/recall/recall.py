"""Everything about vectors and search, put together from the settings."""

from chassis.telemetry import Telemetry
from memory_service.embedding.choice import Embedders
from memory_service.embedding.endpoint import Endpoint
from memory_service.recall.reindexing import ReindexWorker
from memory_service.recall.reranker import Reranker
from memory_service.recall.searcher import Searcher
from memory_service.recall.vectorizer import Vectorizer, VectorMetrics
from memory_service.settings import MemorySettings
from memory_service.store.reindex_store import ReindexStore
from memory_service.store.search_store import SearchStore
from memory_service.store.transactions import Transactions
from memory_service.store.vector_store import VectorStore

_MEBIBYTE = 1024 * 1024


class Recall:
    """What the calls need; `start` begins to make vectors, and `close` ends that and gives back what was loaded."""

    def __init__(self, settings: MemorySettings, transactions: Transactions, telemetry: Telemetry) -> None:
        self.embedders = Embedders.from_settings(settings)
        self.vectors = VectorStore(transactions)
        self.reindexes = ReindexStore(transactions)
        self._search_store = SearchStore(
            transactions,
            cache_bytes=settings.index_cache_mb * _MEBIBYTE,
            exact_limit=settings.exact_vectors,
        )
        self._reranker = _reranker(settings)
        self.searcher = Searcher(self._search_store, self.embedders, self._reranker)
        self.reindexing = ReindexWorker(self.reindexes, self.vectors, self.embedders, batch=settings.vector_batch)
        self._vectorizer = Vectorizer(
            self.vectors,
            self.embedders,
            VectorMetrics(telemetry.registry),
            batch=settings.vector_batch,
            poll_s=settings.vector_poll_s,
        )
        transactions.on_written = self._vectorizer.ring

    @property
    def held_bytes(self) -> int:
        """How much memory the indexes take."""
        return self._search_store.held_bytes

    async def start(self) -> None:
        """Before any search."""
        await self.vectors.begin()
        self._vectorizer.start()

    async def close(self) -> None:
        await self._vectorizer.close()
        await self.embedders.close()
        if self._reranker is not None:
            await self._reranker.close()


def _reranker(settings: MemorySettings) -> Reranker | None:
    if not settings.rerank_url:
        return None
    key = settings.rerank_key.get_secret_value() if settings.rerank_key else ""
    endpoint = Endpoint("reranker", settings.rerank_url, key=key, timeout_s=settings.rerank_timeout_s)
    return Reranker(endpoint, model=settings.rerank_model, top=settings.rerank_top)
