"""Embedders: the same vectors as the model's own tools give, and endpoints that answer badly."""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from memory_service.domain.embedder_errors import EmbedderRefused, EmbedderUnavailable, EmbedderUnknown
from memory_service.embedding import minilm
from memory_service.embedding.choice import Embedders
from memory_service.embedding.model_graph import widen_after_lookup
from memory_service.embedding.wordpiece import WordPieces
from memory_service.settings import MemorySettings

LINES: dict[str, list[int]] = {
    "What did Caroline research?": [101, 2054, 2106, 7981, 2470, 1029, 102],
    "Zo\u00eb\u2019s caf\u00e9": [101, 11199, 1521, 1055, 7668, 102],
    "": [101, 102],
    "x" * 200: [101, 100, 102],
}


def test_texts_are_cut_as_the_model_was_trained():
    pieces = WordPieces()
    for text, expected in LINES.items():
        assert pieces.encode(text, 256) == expected, text
    assert len(pieces.encode("word " * 1_000, 256)) == 256


async def test_minilm_knows_what_is_meant():
    embedders = Embedders.from_settings(MemorySettings())
    embedder = embedders.default
    assert embedder is not None
    near, far, alone = await embedder.embed(["a cup of tea", "the stock market fell", "A CUP OF TEA"])
    query = (await embedder.embed(["what hot drink is there"], query=True))[0]
    assert query @ near > query @ far + 0.2
    assert near @ alone == pytest.approx(1.0, abs=1e-3)
    # The first numbers of the original weights' vector, which eight bits change little.
    assert near @ near == pytest.approx(1.0, abs=1e-5)
    assert (await embedder.embed(["", "\u2603 \U0001f98a", "tea " * 9_000])).shape == (3, 384)
    await embedders.close()


def test_the_model_as_it_is_loaded_gives_the_numbers_of_its_file():
    import numpy as np
    import onnxruntime

    loaded = minilm.MiniLM(1)
    texts = ["", "a cup of tea", "Zo\u00eb\u2019s caf\u00e9 in \u6771\u4eac", "word " * 300]
    changed = loaded.encode(texts)
    model = minilm._model_bytes()
    loaded._session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    assert np.array_equal(changed, loaded.encode(texts))


def test_a_model_of_another_form_is_refused():
    with pytest.raises(ValueError, match="8-bit"):
        widen_after_lookup(minilm._model_bytes(), "no such table")


def test_nothing_is_loaded_until_it_is_needed():
    program = (
        "import sys, memory_service.__main__; from memory_service.embedding.choice import Embedders; "
        "from memory_service.settings import MemorySettings; Embedders.from_settings(MemorySettings()); "
        "print(sorted({'numpy', 'onnxruntime', 'wordllama', 'tokenizers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class Endpoint:
    """Answers with what a test puts into `answer`, whatever is asked."""

    def __init__(self) -> None:
        self.status = 200
        self.answer: Any = {}
        self.asked: list[Any] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.asked.append((self.headers.get("Authorization"), json.loads(body)))
                content = outer.answer if isinstance(outer.answer, bytes) else json.dumps(outer.answer).encode()
                self.send_response(outer.status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    serving = Endpoint()
    yield serving
    serving.server.shutdown()
    serving.thread.join()
    serving.server.server_close()


def openai(endpoint: Endpoint, **options: Any) -> Embedders:
    settings = {"embedding_url": endpoint.url, "embedding_model": "m", "embedding_dimension": 2, "embedding_key": "k"}
    return Embedders.from_settings(MemorySettings(embedder="openai", **{**settings, **options}))


def data(*vectors: Any) -> dict[str, Any]:
    return {"data": [{"index": place, "embedding": vector} for place, vector in enumerate(vectors)]}


async def test_an_endpoint_gives_vectors_of_length_one_in_order(endpoint: Endpoint):
    embedders = openai(endpoint)
    embedder = embedders.by_name("openai")
    answer = data([3, 4], [0, 2])
    answer["data"].reverse()
    endpoint.answer = answer
    vectors = await embedder.embed(["a", "b"])
    assert vectors.tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0.0, 1.0]]
    key, body = endpoint.asked[0]
    assert (key, body["input"], body["model"]) == ("Bearer k", ["a", "b"], "m")
    await embedders.close()


BAD = [
    data([1, 2]),
    data([1, 2], [1, 2], [1, 2]),
    data([1, 2, 3], [1, 2, 3]),
    data([1, 2], ["x", 2]),
    data([1, 2], [True, 2]),
    data([1, 2], [0, 0]),
    data([1, 2], [1e39, 1]),
    data([1, 2], None),
    b'{"data": [{"embedding": [NaN, 1]}, {"embedding": [1, 1]}]}',
    b'{"data": [{"embedding": [Infinity, 1]}, {"embedding": [1, 1]}]}',
    {"data": [{"index": 0, "embedding": [1, 2]}, {"index": 0, "embedding": [1, 2]}]},
    {"data": [{"index": 9, "embedding": [1, 2]}, {"index": 1, "embedding": [1, 2]}]},
    {"data": ["x", "y"]},
    {"error": "no"},
    [],
    b"<html>",
    b"",
    b"[" * 200_000,
    b'{"data": [{"embedding": [1' + b"0" * 400 + b', 1]}, {"embedding": [1, 1]}]}',
]


@pytest.mark.filterwarnings("ignore:overflow encountered")
@pytest.mark.parametrize("answer", BAD, ids=range(len(BAD)))
async def test_what_an_endpoint_answers_is_checked(endpoint: Endpoint, answer: Any):
    embedders = openai(endpoint)
    endpoint.answer = answer
    with pytest.raises(EmbedderUnavailable) as caught:
        await embedders.by_name("openai").embed(["a", "b"])
    assert caught.value.metadata == {"embedder": "openai"}
    assert "Bearer" not in caught.value.message
    await embedders.close()


@pytest.mark.parametrize(
    "answer",
    [
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n100\r\n{"data',
        b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"data',
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 200 + b"\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"",
    ],
    ids=["cut chunk", "cut body", "many headers", "no HTTP", "nothing"],
)
async def test_an_endpoint_that_breaks_off_is_an_outage(answer: bytes):
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        settings = MemorySettings(embedder="openai", embedding_url=f"http://127.0.0.1:{port}/v1")
        embedders = Embedders.from_settings(settings)
        with pytest.raises(EmbedderUnavailable):
            await asyncio.wait_for(embedders.by_name("openai").embed(["a"]), 60)
        await embedders.close()


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, EmbedderRefused), (413, EmbedderRefused), (401, EmbedderUnavailable), (302, EmbedderUnavailable)],
)
async def test_refusals_are_told_from_outages(endpoint: Endpoint, status: int, error: type[Exception]):
    embedders = openai(endpoint)
    endpoint.status = status
    with pytest.raises(error):
        await embedders.by_name("openai").embed(["a"])
    await embedders.close()


async def test_an_endpoint_that_is_not_there_is_an_outage():
    settings = MemorySettings(embedder="openai", embedding_url="http://127.0.0.1:9/v1", embedding_timeout_s=5)
    embedders = Embedders.from_settings(settings)
    with pytest.raises(EmbedderUnavailable):
        await asyncio.wait_for(embedders.by_name("openai").embed(["a"]), 60)
    await embedders.close()


def test_the_settings_say_which_embedders_there_are():
    assert Embedders.from_settings(MemorySettings(embedder="none")).default is None
    with pytest.raises(EmbedderUnknown):
        Embedders.from_settings(MemorySettings()).by_name("hash")
    with pytest.raises(ValueError, match="MOBOT_MEMORY_EMBEDDING_URL"):
        MemorySettings(embedder="openai")
