"""WordLlama: a vector for each token, averaged. A hundred times faster than a transformer, and weaker."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memory_service.domain.embedder import Model
from memory_service.domain.embedder_errors import EmbedderUnavailable

if TYPE_CHECKING:
    from memory_service.embedding.embedder import Vectors

_PACKAGE = "wordllama"
_DIMENSION = 256
_MAX_CHARACTERS = 8_192


def static_model() -> Model:
    """What is installed; without the package, a model that nothing was ever embedded with."""
    try:
        installed = version(_PACKAGE)
    except PackageNotFoundError:
        installed = "absent"
    return Model("static", _DIMENSION, f"static-{_DIMENSION}-{installed}", f"WordLlama {installed}")


@contextmanager
def _own_logging() -> Iterator[None]:
    """The package sets up the logging of the whole process when it is imported; that is not its business."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


class Static:
    """Some 0.2 ms for a text of 60 words."""

    def __init__(self) -> None:
        """Raises: EmbedderUnavailable: the package is not installed."""
        spec = find_spec(_PACKAGE)
        if spec is None or spec.origin is None:
            raise EmbedderUnavailable("static", "it is not installed: pip install 'mobot[static]'")
        import numpy as np

        with _own_logging():
            from wordllama import WordLlama

        self._np = np
        # It looks beside the caller first and would fetch from the network what it does not find there.
        self._model: Any = WordLlama.load(dim=_DIMENSION, cache_dir=Path(spec.origin).parent, disable_download=True)

    def encode(self, texts: Sequence[str]) -> "Vectors":
        np = self._np
        raw = self._model.embed([text[:_MAX_CHARACTERS] for text in texts])
        vectors = np.asarray(raw, np.float32).reshape(len(texts), _DIMENSION)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        # A text without any known token has no direction; it gets one that no other text is near.
        vectors[lengths[:, 0] < 1e-6] = np.eye(1, _DIMENSION, dtype=np.float32)
        made: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)
        return made
