"""The real OpenClaw gateway as a system under test: chat.send, with a loopback model.

A message to a session that still works on another is handed into the running turn there; so the next one waits until
the run before it is over, or was lost for long enough.
"""

import asyncio
import contextlib
import re
import signal
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from websockets.exceptions import WebSocketException

from benchmarks.openclaw_peer import TOKEN, environment, install, write_home
from benchmarks.web_client import RequestRefused, WebClient
from ledger.model import Fault, Kind, Mail, Refused, Seen, Unanswered
from ledger.ports import free_ports
from ledger.processes import Kept, pause, python
from ledger.proxy import Proxy

_CALL_S = 20.0
_TURN_S = 20.0
_START_S = 120.0
_HISTORY = 1_000
_NUMBER = re.compile(r"#(\d+)")
_OVER = frozenset({"final", "error", "aborted"})


def make(directory: Path) -> "OpenClaw":
    """The adapter, with its data in `directory`."""
    return OpenClaw(directory)


class OpenClaw:
    """See the module."""

    name = "OpenClaw gateway 2026.9.6"
    durability = "what chat.send's answer promises is not documented"
    kinds = frozenset({Kind.SEND})
    faults = frozenset({Fault.KILL_ROUTER, Fault.PAUSE_ROUTER, Fault.CUT_SOCKETS})

    def __init__(self, directory: Path) -> None:
        ports = free_ports(("gateway", "proxy", "model"))
        installation = install()
        home = directory / "home"
        write_home(home, port=ports["gateway"], model_port=ports["model"], sessions=0)
        command = [str(installation.node), str(installation.program), "gateway", "--port", str(ports["gateway"])]
        self._gateway = Kept("gateway", command, environment(installation, home), directory)
        self._model = Kept("model", python("benchmarks.fake_model", str(ports["model"])), _path(), directory)
        self._proxy = Proxy(ports["proxy"], ports["gateway"])
        self._url = f"ws://127.0.0.1:{ports['proxy']}/"
        self._client: WebClient | None = None
        self._connecting = asyncio.Lock()
        self._turns: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._last: dict[int, str] = {}

    async def start(self) -> None:
        self._model.start()
        self._gateway.start()
        await self._proxy.start()
        async with asyncio.timeout(_START_S):
            while True:
                with contextlib.suppress(Unanswered):
                    await self._call("health", {})
                    return
                await asyncio.sleep(0.2)  # a client's pause until the gateway is there

    async def stop(self) -> None:
        await self._leave()
        await self._gateway.stop()
        await self._model.stop()
        await self._proxy.stop()

    async def send(self, mail: Mail) -> str:
        before = self._last.get(mail.place)
        if before is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._turns[before].wait(), _TURN_S)
        run = f"ledger-{mail.number}"
        try:
            await self._call("chat.send", {"sessionKey": _key(mail.place), "message": mail.text, "idempotencyKey": run})
        except RequestRefused as error:
            told = error.args[0]
            if told.get("retryable") or told.get("code") == "UNAVAILABLE":
                raise Unanswered(str(told)) from error
            raise Refused(str(told)) from error
        self._last[mail.place] = run
        return run

    async def strike(self, fault: Fault, amount: int) -> None:
        match fault:
            case Fault.KILL_ROUTER:
                self._gateway.signal(signal.SIGKILL)
            case Fault.PAUSE_ROUTER:
                await pause(self._gateway, amount / 4)
            case Fault.CUT_SOCKETS:
                self._proxy.cut()
            case _:
                raise ValueError(f"{self.name} cannot be struck by: {fault}")

    async def settle(self, runs: Sequence[str], patience_s: float) -> Mapping[str, str]:
        """Waits for the end of each run as its clients are told it. No state of a run can be asked for afterwards."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await asyncio.gather(*(self._turns[run].wait() for run in runs))
        return {}

    async def journal(self, mails: Sequence[Mail]) -> Mapping[str, Sequence[Seen]]:
        found: dict[str, Sequence[Seen]] = {}
        for place in sorted({mail.place for mail in mails}):
            while True:
                with contextlib.suppress(Unanswered):
                    told = await self._call("chat.history", {"sessionKey": _key(place), "limit": _HISTORY})
                    found[_key(place)] = _seen(told.get("messages", ()))
                    break
                await asyncio.sleep(0.2)  # a client's pause between two tries
        return found

    def places_of(self, mail: Mail) -> Sequence[str]:
        return (_key(mail.place),)

    def reply_place(self, mail: Mail) -> str:  # noqa: ARG002 - nothing is asked between sessions
        return ""

    def watched(self) -> Sequence[str]:
        return ()

    async def _call(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        try:
            async with self._connecting:
                if self._client is None:
                    self._client = await self._connect()
            answer: dict[str, Any] = await self._client.call(method, params, timeout_s=_CALL_S)
        except (OSError, WebSocketException, TimeoutError) as error:
            await self._leave()
            raise Unanswered(repr(error)) from error
        return answer

    async def _connect(self) -> WebClient:
        client = WebClient(self._url, TOKEN, on_event=self._on_event)
        try:
            return await client.__aenter__()
        except RequestRefused as error:  # it is still starting
            raise Unanswered(str(error)) from error

    async def _leave(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(OSError, WebSocketException):
                await client.__aexit__()

    def _on_event(self, frame: dict[str, Any]) -> None:
        payload = frame.get("payload")
        if frame["event"] == "chat" and isinstance(payload, dict) and payload.get("state") in _OVER:
            self._turns[str(payload.get("runId"))].set()


def _seen(messages: Sequence[Mapping[str, Any]]) -> list[Seen]:
    """An answer that is kept ends its run: the history has no terminal events."""
    found: list[Seen] = []
    for message in messages:
        if message.get("role") == "user" and (number := _NUMBER.search(str(message.get("content")))):
            found.append(Seen("mail", int(number[1]), f"ledger-{number[1]}"))
        elif message.get("role") == "assistant":
            run = str(message.get("__openclaw", {}).get("runId", ""))
            answered = int(run.removeprefix("ledger-")) if run.startswith("ledger-") else 0
            found += [Seen("answer", answered, run), Seen("end", 0, run, "SUCCEEDED")]
    return found


def _key(place: int) -> str:
    return f"agent:main:ledger-{place}"


def _path() -> dict[str, str]:
    return {"PYTHONPATH": str(Path.cwd())}
