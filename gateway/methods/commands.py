"""Text commands: what a person may type instead of a message, and what answers it.

An answer to a command is a normal end of a turn (`chat` with state final), because a client waits for one. It is in
no log: a command is not part of the conversation.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import grpc.aio

from chassis import status
from chassis.resource_names import SessionName
from gateway import errors, frames, transcript
from gateway.methods.listing import find_session
from gateway.methods.resetting import reset_session
from gateway.methods.session_commands import SessionCommands
from gateway.outbox import Event
from gateway.services import Services
from mobot.router.v1 import router_service_pb2 as router_api

_MAX_REMEMBERED = 1_000

_DESCRIPTIONS: Mapping[str, tuple[str, str]] = {
    "help": ("Show the commands.", "status"),
    "status": ("Show this session and what it is doing.", "status"),
    "stop": ("Stop what the bot is doing here.", "session"),
    "new": ("Start over with an empty context. Refused for persistent sessions.", "session"),
    "reset": ("Start over with an empty context. Refused for persistent sessions.", "session"),
    "session": ("List, create, find, rename, protect and delete sessions.", "session"),
    "clear": ("Start over with an empty context. Refused for persistent sessions.", "session"),
}
_RESETTING = frozenset({"new", "reset", "clear"})


@dataclass(frozen=True, slots=True)
class Command:
    """ "/reset now" is name "reset" with rest "now"."""

    name: str
    rest: str


def parse(text: str) -> Command | None:
    """The command a text is, or None when it is a message."""
    stripped = text.strip()
    if not stripped.startswith("/"):
        return None
    word, _, rest = stripped[1:].partition(" ")
    name = word.lower()
    return Command(name, rest.strip()) if name in _DESCRIPTIONS else None


def catalogue() -> list[dict[str, object]]:
    """Rows of commands.list and of chat.metadata."""
    return [
        {
            "name": name,
            "nativeName": name,
            "textAliases": [f"/{name}"],
            "description": description,
            "category": category,
            "source": "native",
            "scope": "both",
            "acceptsArgs": name in _RESETTING or name == "session",
        }
        for name, (description, category) in _DESCRIPTIONS.items()
    ]


class Commands:
    """Carries commands out. Remembers the last thousand, so that one sent again is not done again."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._sessions = SessionCommands(services)
        self._done: OrderedDict[str, None] = OrderedDict()

    async def run(self, command: Command, name: SessionName, run: str) -> dict[str, object]:
        """The acknowledgement; the answer follows as an event."""
        if run in self._done:
            return {"runId": run, "status": "ok"}
        text = await self._text(command, name, run)
        self._done[run] = None
        while len(self._done) > _MAX_REMEMBERED:
            self._done.popitem(last=False)
        # After the acknowledgement, which is written when this returns.
        asyncio.get_running_loop().call_soon(self._announce, name, run, text)
        return {"runId": run, "status": "started"}

    async def _text(self, command: Command, name: SessionName, run: str) -> str:
        match command.name:
            case "help":
                rows = (f"/{known} - {description}" for known, (description, _) in _DESCRIPTIONS.items())
                return "\n".join(("Commands:", *rows))
            case "status":
                return await self._status(name)
            case "stop":
                return await self._stop(name)
            case "session":
                return await self._sessions.run(name, command.rest, run)
            case _:
                return await self._reset(command, name, run)

    async def _reset(self, command: Command, name: SessionName, run: str) -> str:
        try:
            await reset_session(
                self._services, name, reason=f"/{command.name}", expected_uid="", request_id=f"command:{run}"
            )
        except grpc.aio.AioRpcError as error:
            refusal = status.from_rpc_error(error)
            if refusal.code != "FAILED_PRECONDITION":
                raise
            # Refused for what the session is: an answer for the person, not a failure of the call.
            return f"⚠️ {errors.to_shape(refusal).message}"
        return "✅ New session started." if command.name == "new" else "✅ Session reset."

    async def _stop(self, name: SessionName) -> str:
        response = await self._services.router.CancelRun(router_api.CancelRunRequest(session=name.name, reason="/stop"))
        return "⚙️ Agent was aborted." if response.cancelled_runs else "Nothing is running here."

    async def _status(self, name: SessionName) -> str:
        session = await find_session(self._services, name)
        if session is None:
            return f"{name.key}: no session yet; the first message creates it."
        await self._services.bots.warm()
        lines = [
            f"Session {session.label or session.display_name or name.key}",
            f"Key: {name.key}",
            f"Model: {session.model or self._services.bots.model(name.bot)}",
            f"Messages: {session.message_count}",
            f"Persistent: {'yes, its context cannot be reset' if session.persistent else 'no'}",
            f"Running: {', '.join(session.active_runs) or 'nothing'}",
        ]
        return "\n".join(lines)

    def _announce(self, name: SessionName, run: str, text: str) -> None:
        payload = {
            "runId": run,
            "sessionKey": name.key,
            "agentId": name.bot,
            "seq": 1,
            "state": "final",
            "message": transcript.reply(text, self._services.now_ms()),
        }
        self._services.hub.broadcast(Event("chat", frames.dump(payload), run_id=run))
