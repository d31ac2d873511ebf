"""A reranker behind an endpoint of the form that Cohere, Jina and most servers of open models have."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from memory_service.domain.embedder_errors import EmbedderRefused, EmbedderUnavailable
from memory_service.domain.search import Found, Hit, SearchQuery
from memory_service.embedding.endpoint import Endpoint, finite

_log = logging.getLogger("mobot.memory")


class Reranker:
    """Puts the first `top` hits in order anew. What it cannot do is said in a note, and the order stays."""

    def __init__(self, endpoint: Endpoint, *, model: str, top: int) -> None:
        self._endpoint = endpoint
        self._model = model
        self.top = top

    async def close(self) -> None:
        await self._endpoint.close()

    async def rerank(self, query: SearchQuery, found: Found) -> Found:
        """The page that `query` asks for, out of `found`, which begins with the first hit."""
        hits = list(found.hits)
        first, rest = hits[: self.top], hits[self.top :]
        notes, reranked = found.notes, bool(first)
        if first:
            try:
                first = _in_order(first, await self._scores(query.text, first))
            except (EmbedderUnavailable, EmbedderRefused) as error:
                _log.warning("reranker failed", extra={"reason": error.reason})
                notes, reranked = (*notes, f"The hits were not reranked: {error.why}."), False
        page = [*first, *rest]
        return replace(
            found,
            hits=tuple(page[query.skip : query.skip + query.size]),
            more=found.more or len(page) > query.depth,
            notes=notes,
            reranked=reranked,
        )

    async def _scores(self, query: str, hits: list[Hit]) -> list[float]:
        body: dict[str, Any] = {"query": query, "documents": [hit.memory.content.text for hit in hits]}
        if self._model:
            body["model"] = self._model
        body |= {"top_n": len(hits), "return_documents": False}
        answer = await self._endpoint.post(body)
        results = answer.get("results") if isinstance(answer, Mapping) else None
        if not isinstance(results, list) or len(results) != len(hits):
            raise self._endpoint.unusable(f"the endpoint does not answer {len(hits)} results")
        scores: dict[int, float] = {}
        for each in results:
            index = each.get("index") if isinstance(each, Mapping) else None
            score = finite(each.get("relevance_score")) if isinstance(each, Mapping) else None
            if not isinstance(index, int) or index in scores or not 0 <= index < len(hits) or score is None:
                raise self._endpoint.unusable("the endpoint answers results that cannot be told apart")
            scores[index] = score
        return [scores[index] for index in range(len(hits))]


def _in_order(hits: list[Hit], scores: list[float]) -> list[Hit]:
    """By the reranker's score; hits that it holds alike stay in their order."""
    scored = [replace(hit, parts=replace(hit.parts, rerank=score)) for hit, score in zip(hits, scores, strict=True)]
    return sorted(scored, key=lambda hit: -(hit.parts.rerank or 0.0))
