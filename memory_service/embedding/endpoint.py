"""JSON over HTTP to one endpoint, in threads of its own: bounded in time, size and number of calls at once."""

import asyncio
import http.client
import json
import math
import urllib.error
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from memory_service.domain.embedder_errors import EmbedderRefused, EmbedderUnavailable

_MAX_ANSWER = 64 * 1024 * 1024
# These say that asking again is of no use; anything else may pass.
_REFUSALS = frozenset({400, 413, 422})


class Endpoint:
    """`name` is told in errors; the key never is."""

    def __init__(self, name: str, url: str, *, key: str, timeout_s: float, calls_at_once: int = 4) -> None:
        self._name = name
        self._url = url
        self._key = key
        self._timeout_s = timeout_s
        self._opener = urllib.request.build_opener(_NoRedirects())
        self._threads = ThreadPoolExecutor(calls_at_once, thread_name_prefix=f"endpoint-{name}")

    async def post(self, body: Mapping[str, Any]) -> Any:  # noqa: ANN401 - whatever JSON the endpoint answers
        """Raises: EmbedderUnavailable, EmbedderRefused."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._post, json.dumps(body).encode())

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)

    def unusable(self, why: str) -> EmbedderUnavailable:
        return EmbedderUnavailable(self._name, why)

    def _post(self, body: bytes) -> Any:  # noqa: ANN401
        headers = {"Content-Type": "application/json", "User-Agent": "mobot"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        request = urllib.request.Request(self._url, body, headers)
        try:
            with self._opener.open(request, timeout=self._timeout_s) as answer:
                content = answer.read(_MAX_ANSWER + 1)
        except urllib.error.HTTPError as error:
            with error:
                if error.code in _REFUSALS:
                    raise EmbedderRefused(self._name, f"the endpoint answers {error.code}") from error
                raise self.unusable(f"the endpoint answers {error.code}") from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise self.unusable(f"the endpoint does not answer ({type(error).__name__})") from error
        if len(content) > _MAX_ANSWER:
            raise self.unusable(f"the endpoint answers more than {_MAX_ANSWER} bytes")
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            raise self.unusable("the endpoint answers what is not JSON") from error


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to whoever it points to."""

    def redirect_request(self, *_: object) -> None:
        return None


def finite(value: object) -> float | None:
    """The number, if it is one that can be reckoned with."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:  # JSON's whole numbers have no end
        return None
    return number if math.isfinite(number) else None
