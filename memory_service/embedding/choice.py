"""The embedders that the settings know."""

from collections.abc import Mapping

from memory_service.domain.embedder import Model
from memory_service.domain.embedder_errors import EmbedderUnknown
from memory_service.embedding import hashed, minilm
from memory_service.embedding.embedder import Embedder
from memory_service.embedding.endpoint import Endpoint
from memory_service.embedding.local import LocalEmbedder
from memory_service.embedding.openai import OpenAIEmbedder, openai_model
from memory_service.embedding.static import Static, static_model
from memory_service.settings import MemorySettings


class Embedders:
    """Every embedder that can be had, by name, and the one for new namespaces. None of them is loaded yet."""

    def __init__(self, known: Mapping[str, Embedder], default: str | None) -> None:
        self._known = dict(known)
        self._default = default

    @classmethod
    def from_settings(cls, settings: MemorySettings) -> "Embedders":
        if settings.embedder == "none":
            return cls({}, None)
        known: dict[str, Embedder] = {
            "minilm": LocalEmbedder(minilm.MODEL, lambda: minilm.MiniLM(settings.embedding_threads)),
            "static": LocalEmbedder(static_model(), Static),
        }
        if settings.embedding_url:
            known["openai"] = _openai(settings)
        if settings.embedder == "hash":
            known["hash"] = LocalEmbedder(hashed.MODEL, hashed.Hashed)
        return cls(known, settings.embedder)

    @property
    def default(self) -> Embedder | None:
        """The one of the settings; None when there shall be no vectors."""
        return None if self._default is None else self._known[self._default]

    @property
    def fingerprints(self) -> frozenset[str]:
        """Of all whose vectors can be made here."""
        return frozenset(each.model.fingerprint for each in self._known.values())

    def by_name(self, name: str) -> Embedder:
        """Raises: EmbedderUnknown. An empty name is the default's."""
        found = self._known.get(name or self._default or "")
        if found is None:
            raise EmbedderUnknown(name, tuple(self._known))
        return found

    def of(self, model: Model) -> Embedder | None:
        """The one whose vectors can be compared with those of `model`, if it is still to be had."""
        found = self._known.get(model.name)
        return found if found is not None and found.model.fingerprint == model.fingerprint else None

    async def close(self) -> None:
        for embedder in self._known.values():
            await embedder.close()


def _openai(settings: MemorySettings) -> OpenAIEmbedder:
    key = settings.embedding_key.get_secret_value() if settings.embedding_key else ""
    assert settings.embedding_url is not None
    url = settings.embedding_url.rstrip("/") + "/embeddings"
    endpoint = Endpoint("openai", url, key=key, timeout_s=settings.embedding_timeout_s)
    model = openai_model(url, settings.embedding_model, settings.embedding_dimension)
    return OpenAIEmbedder(endpoint, model, batch=settings.embedding_batch)
