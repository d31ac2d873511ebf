"""Small answers that clients ask for at start: health, status, presence, and lists that are empty here."""

import hashlib
from collections.abc import Awaitable, Callable

from gateway import params, scopes
from gateway.dispatch import Call, Method
from gateway.methods import commands
from gateway.services import Services
from mobot.session.v1 import session_service_pb2 as session_api


class SmallMethods:
    """Handlers without a noun of their own."""

    def __init__(self, services: Services, *, version: str) -> None:
        self._services = services
        self._version = version

    def table(self) -> tuple[Method, ...]:
        read, approvals = scopes.READ, scopes.APPROVALS
        return (
            Method("health", read, self.health),
            Method("status", read, self.status),
            Method("system-presence", read, self.presence),
            Method("config.get", read, self.config),
            Method("commands.list", read, self.list_commands),
            Method("question.list", scopes.QUESTIONS, _always({"questions": []})),
            Method("taskSuggestions.list", read, _always({"suggestions": []})),
            Method("exec.approval.list", approvals, _always([])),
            Method("plugin.approval.list", approvals, _always([])),
            Method("openclaw.approval.list", approvals, _always([])),
            Method("mobot.watch", read, self.watch, {"after": params.Text(max_length=4096, nullable=True)}),
            Method("mobot.unwatch", read, self.unwatch),
        )

    async def health(self, _: Call) -> object:
        """Asks the session service, so that "ok" means that something works."""
        count = await self._session_count()
        await self._services.bots.all()
        return health_snapshot(self._services, count)

    async def status(self, _: Call) -> object:
        count = await self._session_count()
        return {
            "runtimeVersion": self._version,
            "sessions": {
                "paths": [],
                "count": count,
                "defaults": self._services.bots.defaults(),
                "recent": [],
                "byAgent": [],
            },
        }

    async def presence(self, _: Call) -> object:
        return self._services.hub.presence()

    async def config(self, _: Call) -> object:
        return {
            "path": "mobot",
            "exists": True,
            "valid": True,
            "raw": None,
            "parsed": {},
            "config": {},
            "hash": hashlib.sha256(b"{}").hexdigest(),
            "issues": [],
            "warnings": [],
        }

    async def list_commands(self, _: Call) -> object:
        return {"commands": commands.catalogue()}

    async def watch(self, call: Call) -> object:
        self._services.streams.watch(call.connection, call.params.get("after"))
        return {"watching": True}

    async def unwatch(self, call: Call) -> object:
        return {"watching": False, "ended": self._services.streams.unwatch(call.connection)}

    async def _session_count(self) -> int:
        request = session_api.ListSessionsRequest(page_size=1, count_total=True)
        return int((await self._services.sessions.ListSessions(request)).total_count)


def health_snapshot(services: Services, session_count: int = 0) -> dict[str, object]:
    """`snapshot.health`, and the payload of the health event."""
    default = services.bots.default_bot
    return {
        "ok": True,
        "ts": services.now_ms(),
        "durationMs": 1,
        "channels": {},
        "channelOrder": [],
        "channelLabels": {},
        "heartbeatSeconds": 0,
        "defaultAgentId": default,
        "agents": [],
        "sessions": {"path": "mobot", "count": session_count, "recent": []},
    }


def _always(payload: object) -> Callable[[Call], Awaitable[object]]:
    async def answer(_: Call) -> object:
        return payload

    return answer
