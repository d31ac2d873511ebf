"""agents.*, models.* and agent: who can be talked to, with what model, and a turn with its answer in one call."""

import asyncio
from collections.abc import Mapping
from typing import Any

import grpc.aio
from google.protobuf import duration_pb2

from chassis.resource_names import SessionName, parse_session
from gateway import errors, params, scopes
from gateway.bots import context_tokens_of, model_of
from gateway.dispatch import Call, Method, SecondResponseFailed
from gateway.keys import MAIN, agent_of, key_of
from gateway.methods.sending import IDEMPOTENCY_KEY, deliver, user_draft
from gateway.services import Services
from gateway.shapes import millis, split_model
from mobot.registry.v1 import bot_pb2
from mobot.router.v1 import message_pb2
from mobot.router.v1 import router_service_pb2 as router_api
from mobot.session.v1 import session_service_pb2 as session_api

_MAX_WAIT_MS = 600_000
_DEFAULT_WAIT_MS = 30_000

_AGENT_RULES: params.Rules = {
    "message": params.Text(required=True),
    "idempotencyKey": IDEMPOTENCY_KEY,
    "sessionKey": params.OPTIONAL_KEY,
    "agentId": params.AGENT,
    "sessionId": params.Text(min_length=1, max_length=64),
    "to": params.Text(),
    "timeout": params.Whole(minimum=0, maximum=30 * 24 * 3600),
}
_WAIT_RULES: params.Rules = {
    "runId": params.Text(required=True, min_length=1, max_length=200),
    "timeoutMs": params.Whole(minimum=0),
}


class AgentMethods:
    """Handlers about bots, which clients call agents."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def table(self) -> tuple[Method, ...]:
        read, write = scopes.READ, scopes.WRITE
        agent: params.Rules = {"agentId": params.AGENT, "sessionKey": params.OPTIONAL_KEY}
        return (
            Method("agents.list", read, self.list_agents),
            Method("agent.identity.get", read, self.identity, agent),
            Method("models.list", read, self.list_models),
            Method("models.authStatus", read, self.auth_status),
            Method("agent", write, self.run_turn, _AGENT_RULES),
            Method("agent.wait", write, self.wait, _WAIT_RULES),
        )

    async def list_agents(self, _: Call) -> object:
        return await self.agents_list()

    async def agents_list(self) -> dict[str, object]:
        bots = await self._services.bots.all()
        return {
            "defaultId": self._services.bots.default_bot,
            "ownership": "sole",
            "selectionRequired": False,
            "mainKey": MAIN,
            "scope": "per-sender",
            "agents": [_agent(bot) for bot in bots],
        }

    async def identity(self, call: Call) -> object:
        given = call.params
        bot_id = (given.get("agentId") or self._services.bots.default_bot).lower()
        if not given.get("agentId") and given.get("sessionKey"):
            bot_id = self._services.keys.session(given["sessionKey"]).bot
        await self._services.bots.all()
        bot = self._services.bots.find(bot_id)
        if bot is None:
            raise errors.invalid_request(f'Unknown agent id "{bot_id}"', reason="bot-not-found")
        identity: dict[str, object] = {"agentId": bot_id, "name": bot.display_name or bot_id, "nameSource": "config"}
        identity["avatar"] = bot.avatar_uri or bot.emoji or (bot.display_name or bot_id)[:1].upper()
        if bot.emoji:
            identity["emoji"] = bot.emoji
        return identity

    async def list_models(self, _: Call) -> object:
        return {"models": await self.models()}

    async def models(self) -> list[dict[str, object]]:
        """One row per model that some bot uses."""
        rows: dict[str, dict[str, object]] = {}
        for bot in await self._services.bots.all():
            qualified = model_of(bot)
            provider, model = split_model(qualified)
            rows.setdefault(
                qualified,
                {
                    "id": model,
                    "name": model,
                    "provider": provider,
                    "contextWindow": context_tokens_of(bot),
                    "reasoning": False,
                    "available": True,
                },
            )
        return list(rows.values())

    async def auth_status(self, _: Call) -> object:
        providers = dict.fromkeys(split_model(model_of(bot))[0] for bot in await self._services.bots.all())
        return {
            "ts": self._services.now_ms(),
            "providers": [
                {
                    "provider": provider,
                    "authProvider": provider,
                    "displayName": provider,
                    "status": "static",
                    "profiles": [],
                    "apiKey": {"source": "config"},
                }
                for provider in providers
            ],
            "providerCapabilities": [],
        }

    async def run_turn(self, call: Call) -> object:
        """Answers twice: accepted, and once the run has ended what came of it."""
        given = call.params
        name = await self._addressee(given)
        run = given["idempotencyKey"]
        receipt = await deliver(self._services, user_draft(self._services, name.name, given["message"], run, given))
        call.respond_early(
            {
                "runId": receipt.run,
                "sessionKey": key_of(receipt.session) if receipt.session else name.key,
                "agentId": agent_of(receipt.session) if receipt.session else name.bot,
                "status": "accepted",
                "acceptedAt": self._services.now_ms(),
            }
        )
        try:
            message = await self._ended(receipt.run, given.get("timeout"))
        except grpc.aio.AioRpcError as error:
            raise SecondResponseFailed(
                errors.ErrorShape(errors.UNAVAILABLE, error.details() or error.code().name, retryable=True),
                {"runId": receipt.run, "status": "error", "summary": "unknown"},
            ) from None
        if message is None:
            return {"runId": receipt.run, "status": "timeout", "summary": "still running"}
        if message.state == message_pb2.MESSAGE_STATE_SUCCEEDED:
            payloads = [{"text": message.reply_text, "mediaUrl": None}] if message.reply_text else []
            meta = {"durationMs": _duration_ms(message), "agentMeta": {"sessionId": "", "model": ""}}
            return {
                "runId": receipt.run,
                "status": "ok",
                "summary": "completed",
                "result": {"payloads": payloads, "meta": meta},
            }
        shape = errors.ErrorShape(errors.UNAVAILABLE, _why(message), {"reason": _state_of(message)})
        raise SecondResponseFailed(shape, {"runId": receipt.run, "status": "error", "summary": shape.message})

    async def _addressee(self, given: Mapping[str, Any]) -> SessionName:
        if given.get("sessionKey"):
            return self._services.keys.session(given["sessionKey"], given.get("agentId"), field="sessionKey")
        if given.get("sessionId"):
            request = session_api.ResolveSessionRequest(uid=given["sessionId"])
            found = (await self._services.sessions.ResolveSession(request)).session
            return parse_session(found.name)
        if given.get("to"):
            raise errors.invalid_request("`to` names a channel's peer, and there are no channels; use sessionKey")
        return self._services.keys.session(MAIN, given.get("agentId"))

    async def wait(self, call: Call) -> object:
        run = call.params["runId"]
        timeout_ms = call.params.get("timeoutMs", _DEFAULT_WAIT_MS)
        try:
            message = await self._ended(run, timeout_ms / 1000, none_means_forever=False)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            # A run that nobody has heard of may still be on its way: for the client that is the same as a timeout.
            return {"runId": run, "status": "timeout"}
        if message is None:
            return {"runId": run, "status": "timeout"}
        return _outcome(message)

    async def _ended(
        self, run: str, timeout_s: float | None, *, none_means_forever: bool = True
    ) -> message_pb2.Message | None:
        """The message once its run has ended; None when the time is over. 0 or None may mean: without limit."""
        loop = asyncio.get_running_loop()
        forever = none_means_forever and not timeout_s
        deadline_s = loop.time() + (timeout_s or 0.0)
        while True:
            left_s = _MAX_WAIT_MS / 1000 if forever else min(_MAX_WAIT_MS / 1000, deadline_s - loop.time())
            # The service reads no timeout as its default, so the least wait is a millisecond.
            wait = duration_pb2.Duration()
            wait.FromMilliseconds(max(1, round(left_s * 1000)))
            response = await self._services.router.WaitRun(router_api.WaitRunRequest(run=run, timeout=wait))
            if response.done:
                return response.message
            if not forever and loop.time() >= deadline_s:
                return None


def _agent(bot: bot_pb2.Bot) -> dict[str, object]:
    agent: dict[str, object] = {
        "id": agent_of(bot.name),
        "kind": "agent",
        "name": bot.display_name or agent_of(bot.name),
        "model": {"primary": model_of(bot)},
    }
    identity = {"name": bot.display_name, "emoji": bot.emoji, "avatar": bot.avatar_uri or bot.emoji}
    identity = {name: value for name, value in identity.items() if value}
    if identity:
        agent["identity"] = identity
    if bot.HasField("create_time"):
        agent["createdAt"] = millis(bot.create_time)
    return agent


def _outcome(message: message_pb2.Message) -> Mapping[str, Any]:
    outcome: dict[str, Any] = {"runId": message.run}
    if message.HasField("start_time"):
        outcome["startedAt"] = millis(message.start_time)
    if message.HasField("end_time"):
        outcome["endedAt"] = millis(message.end_time)
    if message.state == message_pb2.MESSAGE_STATE_SUCCEEDED:
        outcome |= {"status": "ok", "stopReason": message.stop_reason or "stop"}
        if message.reply_text:
            outcome["terminalReply"] = {"disposition": "visible", "text": message.reply_text}
        return outcome
    if message.state == message_pb2.MESSAGE_STATE_CANCELLED:
        return outcome | {"status": "timeout", "stopReason": "rpc", "summary": "aborted"}
    return outcome | {"status": "error", "error": _why(message), "stopReason": "error"}


def _why(message: message_pb2.Message) -> str:
    if message.HasField("last_error") and message.last_error.message:
        return message.last_error.message
    return f"the run ended: {_state_of(message)}"


def _state_of(message: message_pb2.Message) -> str:
    return message_pb2.MessageState.Name(message.state).removeprefix("MESSAGE_STATE_").lower().replace("_", "-")


def _duration_ms(message: message_pb2.Message) -> int:
    if not (message.HasField("start_time") and message.HasField("end_time")):
        return 0
    return max(0, millis(message.end_time) - millis(message.start_time))
