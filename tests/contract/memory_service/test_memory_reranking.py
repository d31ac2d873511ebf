"""A reranker behind an endpoint: it puts the first hits in order, and a bad answer leaves them as they are."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import nan
from typing import Any

import pytest
from memory_world import World

Answer = Callable[[dict[str, Any]], Any]


class Reranker:
    """Answers what `answer` makes of a request."""

    def __init__(self) -> None:
        self.answer: Answer = by_length
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                content = json.dumps(outer.answer(asked)).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/rerank"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()


def by_length(asked: dict[str, Any]) -> Any:
    """The longest text first."""
    scored = [{"index": place, "relevance_score": len(text)} for place, text in enumerate(asked["documents"])]
    return {"results": sorted(scored, key=lambda each: -each["relevance_score"])}


@pytest.fixture
def reranker() -> Iterator[Reranker]:
    serving = Reranker()
    yield serving
    serving.server.shutdown()
    serving.thread.join()
    serving.server.server_close()


async def test_the_first_hits_are_put_in_order_anew(world: World, reranker: Reranker):
    await world.restart(rerank_url=reranker.url, rerank_top=3)
    for text in ("tea", "tea and cake", "tea and a lot of other things", "tea in the afternoon with all of the family"):
        await world.put(text)
    plain = await world.found("tea")
    assert plain[0] == "tea"
    response = await world.search("tea", rerank=True, explain=True)
    assert response.report.reranked
    found = [hit.memory.text for hit in response.hits]
    assert found == [*sorted(plain[:3], key=len, reverse=True), plain[3]]
    assert [hit.parts.HasField("rerank") for hit in response.hits] == [True, True, True, False]
    first = await world.search("tea", rerank=True, page_size=2)
    second = await world.search("tea", rerank=True, page_size=2, page_token=first.next_page_token)
    assert [hit.memory.text for hit in [*first.hits, *second.hits]] == found
    assert not (await world.search("tea")).report.reranked


ENDLESS = 10**400
BAD: list[Answer] = [
    lambda asked: {},
    lambda asked: {"results": []},
    lambda asked: {"results": [{"index": 0, "relevance_score": 1}] * len(asked["documents"])},
    lambda asked: {"results": [{"index": 9, "relevance_score": 1} for _ in asked["documents"]]},
    lambda asked: {"results": [{"index": place, "relevance_score": "x"} for place in range(len(asked["documents"]))]},
    lambda asked: {"results": [{"index": place, "relevance_score": nan} for place in range(len(asked["documents"]))]},
    lambda asked: {
        "results": [{"index": place, "relevance_score": 10**400} for place in range(len(asked["documents"]))]
    },
    lambda asked: [1, 2, 3],
]


async def test_a_reranker_that_answers_badly_changes_nothing_and_is_told(world: World, reranker: Reranker):
    await world.restart(rerank_url=reranker.url)
    for text in ("tea", "tea and cake"):
        await world.put(text)
    plain = await world.found("tea")
    for answer in BAD:
        reranker.answer = answer
        response = await world.search("tea", rerank=True)
        assert [hit.memory.text for hit in response.hits] == plain
        assert not response.report.reranked
        assert any("not reranked: the endpoint" in note for note in response.report.notes)
