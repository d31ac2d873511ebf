"""chat.*: sending, stopping and reading, and the sessions.* methods that do the same."""

from collections.abc import Mapping
from typing import Any

import grpc.aio

from chassis.resource_names import SessionName
from gateway import errors, params, scopes
from gateway.dispatch import Call, Method
from gateway.methods import commands
from gateway.methods.agents import AgentMethods
from gateway.methods.history import read_history
from gateway.methods.sending import IDEMPOTENCY_KEY, ack, deliver, user_draft
from gateway.services import Services
from mobot.router.v1 import router_service_pb2 as router_api
from mobot.session.v1 import event_pb2, part_pb2
from mobot.session.v1 import session_service_pb2 as session_api

_SESSION_KEY: params.Rules = {"sessionKey": params.KEY, "agentId": params.AGENT}
_MESSAGE = params.Text(required=True)
_SEND_RULES: params.Rules = {
    **_SESSION_KEY,
    "message": _MESSAGE,
    "idempotencyKey": IDEMPOTENCY_KEY,
    "sessionId": params.Text(min_length=1),
    "queueMode": params.Text(choices=("steer", "followup", "collect", "interrupt")),
    "timeoutMs": params.Whole(minimum=0, maximum=365 * 24 * 3600 * 1000),
    "thinking": params.Text(),
    "deliver": params.Flag(),
    "suppressCommandInterpretation": params.Flag(),
    "expectedLeafEntryId": params.Text(min_length=1, nullable=True),
}
_HISTORY_RULES: params.Rules = {
    **_SESSION_KEY,
    "limit": params.Whole(minimum=1, maximum=1000),
    "offset": params.Whole(minimum=0, maximum=1_000_000),
    "cursor": params.Text(max_length=4096, nullable=True),
    "maxChars": params.Whole(minimum=1, maximum=500_000),
    "maxBytes": params.Whole(minimum=1),
}


class ChatMethods:
    """Handlers around one conversation."""

    def __init__(self, services: Services, agents: AgentMethods) -> None:
        self._services = services
        self._agents = agents
        self._commands = commands.Commands(services)

    def table(self) -> tuple[Method, ...]:
        read, write, admin = scopes.READ, scopes.WRITE, scopes.ADMIN
        run = params.Text(min_length=1, max_length=200, nullable=True)
        return (
            Method("chat.send", write, self.send, _SEND_RULES),
            Method("chat.history", read, self.history, _HISTORY_RULES),
            Method("chat.startup", read, self.startup, _HISTORY_RULES),
            Method("chat.abort", write, self.abort, {**_SESSION_KEY, "runId": run}),
            Method(
                "chat.inject",
                admin,
                self.inject,
                {
                    **_SESSION_KEY,
                    "message": params.Text(required=True, min_length=1, max_length=256 * 1024),
                    "label": params.Text(max_length=100),
                },
            ),
            Method("chat.metadata", read, self.metadata, {"agentId": params.AGENT, "sessionKey": params.OPTIONAL_KEY}),
            Method(
                "sessions.send",
                write,
                self.send_to_session,
                {
                    "key": params.KEY,
                    "agentId": params.AGENT,
                    "message": _MESSAGE,
                    "idempotencyKey": params.Text(min_length=1, max_length=200),
                    "timeoutMs": params.Whole(minimum=0, maximum=365 * 24 * 3600 * 1000),
                },
            ),
            Method(
                "sessions.steer",
                write,
                self.steer_session,
                {
                    "key": params.KEY,
                    "agentId": params.AGENT,
                    "message": _MESSAGE,
                    "idempotencyKey": params.Text(min_length=1, max_length=200),
                },
            ),
            Method(
                "sessions.abort",
                write,
                self.abort_session,
                {"key": params.OPTIONAL_KEY, "agentId": params.AGENT, "runId": run, "clearQueued": params.Flag()},
            ),
        )

    async def send(self, call: Call) -> object:
        # Nothing is awaited before the message is in the outgoing queue: messages that a client sends one after the
        # other, without waiting, are accepted in that order.
        given = call.params
        name = self._session(call)
        run, text = given["idempotencyKey"], given["message"]
        command = None if given.get("suppressCommandInterpretation") else commands.parse(text)
        if command is not None:
            return await self._commands.run(command, name, run)
        draft = user_draft(self._services, name.name, text, run, given)
        return ack(await deliver(self._services, draft))

    async def steer_session(self, call: Call) -> object:
        """Hands the message to the running turn; without one it is a turn of its own."""
        return await self._send_to_session({**call.params, "queueMode": "steer"})

    async def send_to_session(self, call: Call) -> object:
        return await self._send_to_session(call.params)

    async def _send_to_session(self, given: Mapping[str, Any]) -> object:
        name = self._services.keys.session(given["key"], given.get("agentId"))
        run = given.get("idempotencyKey") or self._services.new_id()
        draft = user_draft(self._services, name.name, given["message"], run, given)
        return ack(await deliver(self._services, draft))

    async def history(self, call: Call) -> object:
        return await read_history(self._services, self._session(call), call.params)

    async def startup(self, call: Call) -> object:
        history = await read_history(self._services, self._session(call), call.params)
        if history.get("kind") != "reset":
            history["metadata"] = await self._metadata()
            history["agentsList"] = await self._agents.agents_list()
        return history

    async def metadata(self, _: Call) -> object:
        return await self._metadata()

    async def abort(self, call: Call) -> object:
        name = self._session(call)
        runs = await self._cancel(name, call.params.get("runId"), include_queued=False)
        return {"ok": True, "aborted": bool(runs), "runIds": runs}

    async def abort_session(self, call: Call) -> object:
        given = call.params
        if not given.get("key") and not given.get("runId"):
            raise errors.invalid_request("invalid sessions.abort params: must have one of key, runId")
        name = self._services.keys.session(given["key"], given.get("agentId")) if given.get("key") else None
        runs = await self._cancel(name, given.get("runId"), include_queued=bool(given.get("clearQueued")))
        return {
            "ok": True,
            "abortedRunId": runs[0] if runs else None,
            "status": "aborted" if runs else "no-active-run",
        }

    async def inject(self, call: Call) -> object:
        given = call.params
        label = given.get("label")
        text = f"[{label}]\n\n{given['message']}" if label else given["message"]
        event = event_pb2.Event(
            id=f"inject-{self._services.new_id()}",
            message=event_pb2.MessageAppended(
                role=event_pb2.ROLE_ASSISTANT,
                parts=[part_pb2.Part(text=text)],
                model="openclaw/gateway-injected",
                stop_reason="stop",
            ),
        )
        append = session_api.SessionAppend(
            session=self._session(call).name,
            events=[event],
            ensure=session_api.EnsureSession(created_via="operator", user_created=True),
        )
        await self._services.sessions.AppendEvents(session_api.AppendEventsRequest(append=append))
        return {"ok": True, "messageId": event.id}

    async def _cancel(self, name: SessionName | None, run: str | None, *, include_queued: bool) -> list[str]:
        request = router_api.CancelRunRequest(include_queued=include_queued, reason="stopped by an operator")
        if run:
            request.run = run
        elif name is not None:
            request.session = name.name
        try:
            response = await self._services.router.CancelRun(request)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return []
            raise
        return list(response.cancelled_runs)

    async def _metadata(self) -> dict[str, object]:
        return {"models": await self._agents.models(), "commands": commands.catalogue()}

    def _session(self, call: Call) -> SessionName:
        return self._services.keys.session(call.params["sessionKey"], call.params.get("agentId"), field="sessionKey")
