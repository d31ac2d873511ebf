"""What every maker of vectors offers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from memory_service.domain.embedder import Model

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]


class Embedder(Protocol):
    """Makes vectors of length 1, so that their product is the cosine."""

    @property
    def model(self) -> Model: ...

    async def embed(self, texts: Sequence[str], *, query: bool = False) -> "Vectors":
        """A row for each text, in order. Queries do not wait behind documents.

        Raises:
            EmbedderUnavailable: it gives no vectors now; another try may do.
            EmbedderRefused: it will not take one of these texts.
        """
        ...

    async def close(self) -> None:
        """Gives back threads and memory."""
        ...
