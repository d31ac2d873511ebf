"""Making vectors in the background: what waits for one is on record, so a restart goes on."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge

from chassis.errors import AppError
from chassis.waiting import within
from memory_service.domain.embedder import Shape
from memory_service.domain.embedder_errors import EmbedderRefused, EmbedderUnavailable
from memory_service.embedding.choice import Embedders
from memory_service.embedding.embedder import Embedder
from memory_service.embedding.heap import give_back_memory
from memory_service.store.vector_store import VectorStore
from memory_service.store.vectors import Unembedded

_FIRST_PAUSE_S = 1.0
_LAST_PAUSE_S = 60.0
_MANY = 64
"""After so many memories without a rest the heap is worth a look."""

_log = logging.getLogger("mobot.memory")


@dataclass(frozen=True, slots=True)
class Settled:
    """What came of a batch: vectors by place, None for a text that was refused."""

    vectors: Sequence[Any]

    @property
    def failed(self) -> int:
        return sum(vector is None for vector in self.vectors)


async def embed_memories(embedder: Embedder, shape: Shape, memories: Sequence[Unembedded]) -> Settled:
    """Vectors of memories, as their shape wants them.

    Raises:
        EmbedderUnavailable: another try may do.
    """
    texts = [each.text for each in memories]
    alone = await _embed(embedder, texts)
    if shape is not Shape.DIALOGUE:
        return Settled(alone)
    with_turn = [(place, f"{each.before} {each.text}") for place, each in enumerate(memories) if each.before]
    joined = await _embed(embedder, [text for _, text in with_turn])
    made = list(alone)
    for (place, _), vector in zip(with_turn, joined, strict=True):
        if made[place] is not None and vector is not None:
            made[place] = (made[place] + vector) / 2  # its product with a query is the mean of both cosines
    return Settled(made)


async def _embed(embedder: Embedder, texts: Sequence[str]) -> list[Any]:
    """One bad text must not hold up the others: when a batch is refused, each is tried alone."""
    if not texts:
        return []
    try:
        return list(await embedder.embed(texts))
    except EmbedderRefused as refusal:
        if len(texts) == 1:
            _log.warning("text refused", extra={"embedder": embedder.model.name, "why": refusal.message})
            return [None]
    return [vector for text in texts for vector in await _embed(embedder, [text])]


class VectorMetrics:
    """How many memories wait for a vector, how many got one, and how many texts were refused."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.backlog = Gauge("memory_vector_backlog", "Memories that wait for a vector.", registry=registry)
        self.made = Counter("memory_vectors_made", "Vectors made for memories.", registry=registry)
        self.refused = Counter("memory_vectors_refused", "Texts that the embedder refused.", registry=registry)


class Vectorizer:
    """Belongs to the event loop on which it was started."""

    def __init__(
        self, store: VectorStore, embedders: Embedders, metrics: VectorMetrics, *, batch: int, poll_s: float
    ) -> None:
        self._store = store
        self._embedders = embedders
        self._metrics = metrics
        self._batch = batch
        self._poll_s = poll_s
        self._bell = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._pause_s = 0.0
        self._made_in_a_row = 0

    def start(self) -> None:
        if self._embedders.default is not None:
            self._task = asyncio.create_task(self._run(), name="memory-vectors")

    def ring(self) -> None:
        """Something was written. Nothing is lost without it; vectors only come later."""
        self._bell.set()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def run_batch(self) -> int:
        """Makes the vectors of one micro-batch; returns how many memories it had.

        Raises:
            AppError: nothing can be made now.
        """
        waiting = await self._store.find_backlog(self._embedders.fingerprints, self._batch)
        full = len(waiting) == self._batch
        self._metrics.backlog.set(await self._store.count_backlog() if full else len(waiting))
        for _, some in groupby(sorted(waiting, key=lambda each: each.namespace), key=lambda each: each.namespace):
            await self._embed_and_save(list(some))
        return len(waiting)

    async def _embed_and_save(self, memories: list[Unembedded]) -> None:
        default = self._embedders.default
        assert default is not None
        vectors = await self._store.ensure_serving(memories[0].bot, default.model)
        embedder = None if vectors is None else self._embedders.of(vectors.model)
        if vectors is None or embedder is None:
            return  # erased or re-indexed meanwhile
        if vectors.shape is Shape.DIALOGUE:
            memories = await self._store.with_turns_before(memories)
        settled = await embed_memories(embedder, vectors.shape, memories)
        await self._store.save(memories[0].bot, vectors, memories, settled.vectors)
        self._metrics.made.inc(len(memories) - settled.failed)
        self._metrics.refused.inc(settled.failed)

    async def _run(self) -> None:
        while True:
            self._bell.clear()
            try:
                made = await self.run_batch()
            except AppError as error:
                made = 0
                self._slow_down(error)
            except Exception:  # noqa: BLE001 - a defect must not end the making of vectors for good, unseen
                _log.exception("making vectors raised")
                made, self._pause_s = 0, _LAST_PAUSE_S
            else:
                self._pause_s = 0.0
            self._made_in_a_row += made
            if not made:
                if self._made_in_a_row >= _MANY:
                    await asyncio.to_thread(give_back_memory)
                self._made_in_a_row = 0
                await self._wait()

    def _slow_down(self, error: AppError) -> None:
        log = _log.warning if not self._pause_s else _log.debug
        unavailable = isinstance(error, EmbedderUnavailable)
        log("vectors wait", extra={"reason": error.reason, "why": error.message if unavailable else error.code})
        self._pause_s = min(_LAST_PAUSE_S, self._pause_s * 2 or _FIRST_PAUSE_S)

    async def _wait(self) -> None:
        """Until something is written or the time for a look has come; after a failure the whole pause."""
        if self._pause_s:
            await asyncio.sleep(self._pause_s)
        else:
            await within(self._poll_s, self._bell.wait())
