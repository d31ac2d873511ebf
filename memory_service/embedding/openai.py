"""Any endpoint of the form of OpenAI's `/v1/embeddings`."""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from memory_service.domain.embedder import Model
from memory_service.embedding.endpoint import Endpoint, finite

if TYPE_CHECKING:
    from memory_service.embedding.embedder import Vectors


def openai_model(url: str, model: str, dimension: int) -> Model:
    """The same model behind another address counts as another: who serves it may have changed it."""
    digest = hashlib.sha256(f"{url} {model}".encode()).hexdigest()[:8]
    return Model("openai", dimension, f"openai-{dimension}-{digest}", model)


class OpenAIEmbedder:
    """Checks every answer: as many vectors as texts, each of the stated dimension, finite and not zero."""

    def __init__(self, endpoint: Endpoint, model: Model, *, batch: int) -> None:
        self._endpoint = endpoint
        self._model = model
        self._batch = batch

    @property
    def model(self) -> Model:
        return self._model

    async def embed(self, texts: Sequence[str], *, query: bool = False) -> "Vectors":  # noqa: ARG002
        import numpy as np

        rows: list[list[float]] = []
        for start in range(0, len(texts), self._batch):
            some = list(texts[start : start + self._batch])
            answer = await self._endpoint.post({"model": self._model.model, "input": some, "encoding_format": "float"})
            rows.extend(self._read(answer, len(some)))
        vectors: Vectors = np.asarray(rows, np.float32).reshape(len(texts), self._model.dimension)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.isfinite(lengths).all() or (lengths < 1e-12).any():
            raise self._endpoint.unusable("the endpoint answers a vector of zeros or of no measurable length")
        made: Vectors = vectors / lengths
        return made

    async def close(self) -> None:
        await self._endpoint.close()

    def _read(self, answer: Any, count: int) -> list[list[float]]:  # noqa: ANN401
        data = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(data, list) or len(data) != count:
            got = len(data) if isinstance(data, list) else "no"
            raise self._endpoint.unusable(f"the endpoint answers {got} vectors for {count} texts")
        rows: list[list[float] | None] = [None] * count
        for place, each in enumerate(data):
            index = each.get("index", place) if isinstance(each, dict) else None
            if not isinstance(index, int) or not 0 <= index < count or rows[index] is not None:
                raise self._endpoint.unusable("the endpoint answers vectors that cannot be told apart")
            rows[index] = self._row(each.get("embedding"))
        return [row for row in rows if row is not None]

    def _row(self, values: object) -> list[float]:
        if not isinstance(values, list) or len(values) != self._model.dimension:
            got = len(values) if isinstance(values, list) else "no"
            raise self._endpoint.unusable(f"the endpoint answers {got} numbers, not {self._model.dimension}")
        row = [finite(value) for value in values]
        if None in row:
            raise self._endpoint.unusable("the endpoint answers what is no finite number")
        return [value for value in row if value is not None]
