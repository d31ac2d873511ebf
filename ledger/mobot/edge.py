"""A client of the gateway: it speaks into sessions, and hears all of them on a stream that it resumes after breaks."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Mapping, Set
from typing import Any

from websockets.exceptions import WebSocketException

from benchmarks.web_client import RequestRefused, WebClient
from ledger.model import Refused, Unanswered

_BACK_S = 0.05
_CALL_S = 10.0
_ENDS = frozenset({"final", "error", "aborted"})
_BROKEN = (OSError, WebSocketException, TimeoutError)


class EdgeClient:
    """Each message of a log and each end of a run must be told once, and the events of a session in their order."""

    def __init__(self, name: str, url: str, token: str) -> None:
        self._name = name
        self._url = url
        self._secret = token
        self._token = ""
        self._client: WebClient | None = None
        self._task: asyncio.Task[None] | None = None
        self._last: dict[str, int] = {}
        self._said: defaultdict[str, set[int]] = defaultdict(set)
        self._ended: set[str] = set()
        self._amiss: list[str] = []
        self.attached = asyncio.Event()

    def start(self) -> None:
        self._task = asyncio.create_task(self._stay(), name=self._name)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def say(self, key: str, text: str, run: str) -> str:
        """chat.send; returns the run.

        Raises:
            Unanswered: the socket broke, or the gateway asks to try again.
            Refused: it said no.
        """
        client = self._client
        if client is None:
            raise Unanswered(f"{self._name} is not connected")
        try:
            params = {"sessionKey": key, "message": text, "idempotencyKey": run}
            answer = await client.call("chat.send", params, timeout_s=_CALL_S)
        except RequestRefused as error:
            told = error.args[0]
            if told.get("retryable") or told.get("code") == "UNAVAILABLE":
                raise Unanswered(str(told)) from error
            raise Refused(str(told)) from error
        except _BROKEN as error:
            raise Unanswered(repr(error)) from error
        return str(answer["runId"])

    def amiss(self, said: Mapping[str, Set[int]], ended: Set[str]) -> list[str]:
        """What was wrong so far. `said`: the sequences of all messages by session key; `ended`: all runs that ended."""
        missing = [
            f"lost to {self._name}: message {sequence} of {key}"
            for key, sequences in said.items()
            for sequence in sorted(sequences - self._said[key])
        ]
        missing += [f"lost to {self._name}: the end of {run}" for run in sorted(ended - self._ended)]
        return self._amiss + missing

    async def _stay(self) -> None:
        while True:
            with contextlib.suppress(RequestRefused, *_BROKEN):
                async with WebClient(self._url, self._secret, on_event=self._take) as client:
                    if not self._token:
                        listed = await client.call("sessions.list", {"limit": 1}, timeout_s=_CALL_S)
                        self._token = listed["watchToken"]
                    await client.call("mobot.watch", {"after": self._token}, timeout_s=_CALL_S)
                    self._client = client
                    self.attached.set()
                    await client.closed()
            self._client = None
            await asyncio.sleep(_BACK_S)  # a client's pause before it comes back

    def _take(self, frame: Mapping[str, Any]) -> None:
        if frame["event"] != "mobot.event":
            return
        payload = frame["payload"]
        for problem in ("reset", "error"):
            if problem in payload:
                self._amiss.append(f"unexplained {problem} of {self._name}: {payload[problem]}")
        # Events and token of a frame are taken together: what comes after a break begins behind both.
        for item in payload["items"]:
            if "sequence" in item:
                self._hear(item["event"], item["payload"], item["sequence"])
        self._token = payload["token"] or self._token

    def _hear(self, event: str, told: Mapping[str, Any], sequence: int) -> None:
        key = told.get("sessionKey", "")
        if sequence < self._last.get(key, 0):
            self._amiss.append(f"disordered to {self._name}: event {sequence} of {key} after {self._last[key]}")
        self._last[key] = max(sequence, self._last.get(key, 0))
        if event == "session.message":
            if sequence in self._said[key]:
                self._amiss.append(f"doubled to {self._name}: message {sequence} of {key}")
            self._said[key].add(sequence)
        elif event == "chat" and told.get("state") in _ENDS:
            run = str(told["runId"])
            if run in self._ended:
                self._amiss.append(f"doubled to {self._name}: the end of {run}")
            self._ended.add(run)
