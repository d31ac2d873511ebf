"""The memory's settings: MOBOT_MEMORY_* variables."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from chassis.settings import ListenSettings


class MemorySettings(ListenSettings):
    """What the memory service needs to know besides `ChassisSettings`."""

    model_config = SettingsConfigDict(env_prefix="MOBOT_MEMORY_")

    database_url: str | None = Field(
        None,
        description="Database of the memory: `sqlite:///path` or `postgresql://user@host/name`. "
        "Default: `memory.sqlite3` in the data directory.",
    )
    host: str = Field("127.0.0.1", description="Address the memory listens on.")
    port: int = Field(50053, ge=0, le=65535, description="TCP port of the memory; 0 takes any free one.")
    socket: Path | None = Field(None, description="Unix socket the memory listens on as well.")
    max_memories: int = Field(1_000_000, ge=1, description="Most memories a bot may have, deleted ones included.")
    retention_days: float = Field(
        30.0, ge=0, le=36_500, description="Days that a deleted memory can be brought back before it is purged."
    )
    sweep_interval_s: float = Field(
        60.0,
        gt=0,
        le=86_400,
        description="Seconds between sweeps, which purge what has expired or was deleted long ago.",
    )
    compact_interval_s: float = Field(
        3600.0,
        ge=0,
        le=31_536_000,
        description="Least seconds between compactions, which write the index of words anew without what was purged "
        "(SQLite).",
    )
    embedder: Literal["minilm", "static", "openai", "hash", "none"] = Field(
        "minilm",
        description="What makes the vectors of new namespaces: `minilm` (all-MiniLM-L6-v2, here, without network), "
        "`static` (WordLlama, faster and weaker, needs the extra `static`), `openai` (an endpoint), `hash` (for tests) "
        "or `none` (search goes by word alone).",
    )
    embedding_threads: int = Field(1, ge=1, le=64, description="Threads that one run of `minilm` may use.")
    embedding_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s]+$",
        description="Base of an API of OpenAI's form, such as `http://127.0.0.1:8080/v1`; `/embeddings` is added.",
    )
    embedding_model: str = Field("", max_length=256, description="Model to ask that endpoint for.")
    embedding_key: SecretStr | None = Field(None, description="Bearer token for that endpoint.")
    embedding_dimension: int = Field(
        1536, ge=1, le=16_000, description="How many numbers that endpoint's vectors have; another number is refused."
    )
    embedding_batch: int = Field(64, ge=1, le=2_048, description="Most texts in one request to that endpoint.")
    embedding_timeout_s: float = Field(30.0, gt=0, le=600, description="Seconds that endpoint has for an answer.")
    vector_batch: int = Field(
        16, ge=1, le=1_024, description="Most memories that are embedded before their vectors are stored."
    )
    vector_poll_s: float = Field(
        5.0, gt=0, le=3_600, description="Seconds between looks for memories without a vector that nobody told of."
    )
    index_cache_mb: int = Field(
        96,
        ge=1,
        le=1_000_000,
        description="Memory for the indexes of namespaces that were searched lately, in MiB (SQLite). A namespace that "
        "alone would need more is searched in the file.",
    )
    exact_vectors: int = Field(
        20_000,
        ge=0,
        description="Up to so many memories of a namespace all vectors are held in memory and compared; above it their "
        "signs are, and the best few hundred in full (SQLite).",
    )
    rerank_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s]+$",
        description="An endpoint of the form of Cohere's and Jina's `/rerank`, whole, for searches that ask for it.",
    )
    rerank_model: str = Field("", max_length=256, description="Model to ask the reranker for.")
    rerank_key: SecretStr | None = Field(None, description="Bearer token for the reranker.")
    rerank_top: int = Field(50, ge=2, le=200, description="How many of the first hits the reranker puts in order anew.")
    rerank_timeout_s: float = Field(5.0, gt=0, le=600, description="Seconds the reranker has for an answer.")

    @model_validator(mode="after")
    def _endpoint_is_there(self) -> Self:
        if self.embedder == "openai" and not self.embedding_url:
            raise ValueError("MOBOT_MEMORY_EMBEDDER=openai needs MOBOT_MEMORY_EMBEDDING_URL")
        return self
