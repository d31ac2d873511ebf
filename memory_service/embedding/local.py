"""An embedder that runs here: loaded in a thread when it is first needed, and worked in threads ever after."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

from memory_service.domain.embedder import Model
from memory_service.domain.embedder_errors import EmbedderUnavailable
from memory_service.embedding.heap import give_back_memory

if TYPE_CHECKING:
    from memory_service.embedding.embedder import Vectors

_log = logging.getLogger("mobot.memory")


class Encoder(Protocol):
    def encode(self, texts: Sequence[str]) -> "Vectors": ...


class LocalEmbedder:
    """Documents have one thread and queries another, so that a search waits for no micro-batch."""

    def __init__(self, model: Model, load: Callable[[], Encoder]) -> None:
        self._model = model
        self._load = load
        self._encoder: Encoder | None = None
        self._loading = threading.Lock()
        self._documents = ThreadPoolExecutor(1, thread_name_prefix=f"embed-{model.name}")
        self._queries = ThreadPoolExecutor(1, thread_name_prefix=f"embed-query-{model.name}")

    @property
    def model(self) -> Model:
        return self._model

    async def embed(self, texts: Sequence[str], *, query: bool = False) -> "Vectors":
        threads = self._queries if query else self._documents
        return await asyncio.get_running_loop().run_in_executor(threads, self._encode, texts)

    async def close(self) -> None:
        await asyncio.to_thread(self._shut_down)

    def _shut_down(self) -> None:
        self._documents.shutdown(cancel_futures=True)
        self._queries.shutdown(cancel_futures=True)
        self._encoder = None

    def _encode(self, texts: Sequence[str]) -> "Vectors":
        with self._loading:
            if self._encoder is None:
                self._encoder = self._loaded()
        return self._encoder.encode(texts)

    def _loaded(self) -> Encoder:
        begun = time.monotonic()
        try:
            encoder = self._load()
        except (ImportError, OSError, ValueError) as error:
            raise EmbedderUnavailable(self._model.name, f"it cannot be loaded ({error})") from error
        give_back_memory()
        _log.info("embedder loaded", extra={"embedder": self._model.name, "took_s": round(time.monotonic() - begun, 3)})
        return encoder
