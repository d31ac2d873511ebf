"""The work of making a bot's vectors anew, with another embedder or for another shape, while the old ones serve."""

from memory_service.domain.embedder import Shape
from memory_service.domain.errors import OperationStopped
from memory_service.domain.operation import Operation
from memory_service.embedding.choice import Embedders
from memory_service.recall.vectorizer import embed_memories
from memory_service.store.reindex_store import ReindexStore, undo_reindex
from memory_service.store.transaction import Transaction
from memory_service.store.vector_store import VectorStore


class ReindexWorker:
    """Pieces of `batch` memories. Where it stands is in the operation and in the set itself."""

    def __init__(self, reindexes: ReindexStore, store: VectorStore, embedders: Embedders, *, batch: int) -> None:
        self._reindexes = reindexes
        self._store = store
        self._embedders = embedders
        self._batch = batch

    async def advance(self, operation: Operation) -> Operation:
        if "set" not in operation.progress:
            embedder = self._embedders.by_name(str(operation.arguments["embedder"]))
            shape = operation.arguments.get("shape")
            return await self._reindexes.begin(operation, embedder.model, Shape(shape) if shape else None)
        if operation.progress["phase"] == "text":
            return await self._reindexes.renew_texts(operation)
        made, memories = await self._reindexes.find_unmade(operation, self._batch)
        if made is None:
            raise OperationStopped(operation.name)
        if not memories:
            return await self._reindexes.take_over(operation, made)
        embedder = self._embedders.by_name(made.model.name)
        if made.shape is Shape.DIALOGUE:
            memories = await self._store.with_turns_before(memories)
        settled = await embed_memories(embedder, made.shape, memories)
        return await self._reindexes.save(operation, made, memories, settled.vectors)

    def undo(self, tx: Transaction, operation: Operation) -> None:
        undo_reindex(tx, operation)
