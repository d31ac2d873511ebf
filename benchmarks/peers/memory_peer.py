"""Another memory or vector store, told by lines of JSON what to do; runs in the peers' environment.

python memory_peer.py chroma|mem0|langgraph-sqlite DIRECTORY
python memory_peer.py langgraph-postgres URL
"""

import json
import logging
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.memory_material import DIMENSION, Material


class Peer(Protocol):
    def add(self, items: list[tuple[str, Any]]) -> None: ...
    def search(self, query: tuple[str, Any], size: int) -> int: ...


class Chroma:
    def __init__(self, directory: str) -> None:
        import chromadb

        client = chromadb.PersistentClient(directory, settings=chromadb.Settings(anonymized_telemetry=False))
        self._collection = client.create_collection("bench", metadata={"hnsw:space": "cosine"}, embedding_function=None)
        self._count = 0

    def add(self, items: list[tuple[str, Any]]) -> None:
        ids = [str(self._count + place) for place in range(len(items))]
        self._count += len(items)
        self._collection.add(
            ids=ids, documents=[text for text, _ in items], embeddings=np.array([vector for _, vector in items])
        )

    def search(self, query: tuple[str, Any], size: int) -> int:
        found = self._collection.query(query_embeddings=[query[1]], n_results=size)
        return len(found["ids"][0])


class Mem0:
    """Without its language model, with its own default store, and with vectors that cost nothing."""

    def __init__(self, directory: str) -> None:
        os.environ |= {"MEM0_TELEMETRY": "False", "MEM0_DIR": directory, "OPENAI_API_KEY": "none"}
        from mem0 import Memory

        store = {"path": f"{directory}/qdrant", "embedding_model_dims": DIMENSION, "on_disk": True}
        self._memory = Memory.from_config(
            {
                "vector_store": {"provider": "qdrant", "config": store},
                "history_db_path": f"{directory}/history.db",
            }
        )
        self._vectors: dict[str, list[float]] = {}
        self._memory.embedding_model = self

    def embed(self, text: str, *_: Any, **__: Any) -> list[float]:
        return self._vectors[text]

    def embed_batch(self, texts: list[str], *_: Any, **__: Any) -> list[list[float]]:
        return [self._vectors[text] for text in texts]

    def add(self, items: list[tuple[str, Any]]) -> None:
        for text, vector in items:
            self._vectors[text] = vector.tolist()
            self._memory.add(text, user_id="bench", infer=False)

    def search(self, query: tuple[str, Any], size: int) -> int:
        self._vectors[query[0]] = query[1].tolist()
        found = self._memory.search(query[0], filters={"user_id": "bench"}, top_k=size)
        return len(found["results"])


class LangGraph:
    """One of LangGraph's stores, with vectors that cost nothing."""

    def __init__(self) -> None:
        self._vectors: dict[str, list[float]] = {}
        self._store: Any = None
        self._count = 0

    @property
    def _index(self) -> dict[str, Any]:
        return {"dims": DIMENSION, "embed": self._embed, "fields": ["text"]}

    def _embed(self, texts: Iterable[str]) -> list[list[float]]:
        # It hands over a put value whole, as JSON.
        return [self._vectors[json.loads(text)["text"] if text.startswith("{") else text] for text in texts]

    def add(self, items: list[tuple[str, Any]]) -> None:
        from langgraph.store.base import PutOp

        self._vectors |= {text: vector.tolist() for text, vector in items}
        puts = [PutOp(("bench",), str(self._count + place), {"text": text}) for place, (text, _) in enumerate(items)]
        self._count += len(items)
        self._store.batch(puts)

    def search(self, query: tuple[str, Any], size: int) -> int:
        self._vectors[query[0]] = query[1].tolist()
        return len(self._store.search(("bench",), query=query[0], limit=size))


class LangGraphSqlite(LangGraph):
    def __init__(self, directory: str) -> None:
        super().__init__()
        import pysqlite3

        sys.modules["sqlite3"] = pysqlite3  # the system's may not load extensions, which this store needs
        import sqlite3

        from langgraph.store.sqlite import SqliteStore

        conn = sqlite3.connect(f"{directory}/store.sqlite", check_same_thread=False, isolation_level=None)
        self._store = SqliteStore(conn, index=self._index)
        self._store.setup()


class LangGraphPostgres(LangGraph):
    def __init__(self, url: str) -> None:
        super().__init__()
        import psycopg
        from langgraph.store.postgres import PostgresStore
        from psycopg.rows import dict_row

        conn = psycopg.connect(url, autocommit=True, prepare_threshold=0, row_factory=dict_row)
        self._store = PostgresStore(conn, index=self._index)
        self._store.setup()


PEERS: dict[str, Any] = {
    "chroma": Chroma,
    "mem0": Mem0,
    "langgraph-sqlite": LangGraphSqlite,
    "langgraph-postgres": LangGraphPostgres,
}


def serve(peer: Peer) -> None:
    """Answers each command with the seconds that each of its calls took."""
    material = Material()
    for line in sys.stdin:
        command = json.loads(line)
        took: list[float] = []
        if command["do"] == "add":
            items = list(material.items(command["count"]))
            for start in range(0, len(items), command["at_once"]):
                begun = time.perf_counter()
                peer.add(items[start : start + command["at_once"]])
                took.append(time.perf_counter() - begun)
        else:
            for query in Material(command["seed"]).queries(command["count"]):
                begun = time.perf_counter()
                found = peer.search(query, 10)
                took.append(time.perf_counter() - begun)
                if found != 10:
                    raise RuntimeError(f"10 hits were asked for and {found} found")
        print(json.dumps(took), flush=True)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    serve(PEERS[sys.argv[1]](sys.argv[2]))
