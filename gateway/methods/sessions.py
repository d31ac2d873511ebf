"""sessions.*: listing, finding and following sessions. What changes them is in session_changes."""

from collections.abc import Mapping
from typing import Any

import grpc.aio

from chassis import errors as app_errors
from chassis import status
from chassis.resource_names import SessionName
from gateway import errors, params, scopes, shapes
from gateway.dispatch import Call, Method
from gateway.keys import agent_of, key_of
from gateway.methods import history, listing
from gateway.services import Services
from mobot.session.v1 import session_service_pb2 as session_api

_LIST_RULES: params.Rules = {
    "limit": params.Whole(minimum=1),
    "offset": params.Whole(minimum=0, maximum=1_000_000),
    "activeMinutes": params.Whole(minimum=1, maximum=100_000_000),
    "sortBy": params.Text(choices=("updatedAt", "lastInteractionAt", "activity")),
    "includeGlobal": params.Flag(),
    "includeUnknown": params.Flag(),
    "configuredAgentsOnly": params.Flag(),
    "includeDerivedTitles": params.Flag(),
    "includeLastMessage": params.Flag(),
    "label": params.Text(min_length=1, max_length=512),
    "spawnedBy": params.OPTIONAL_KEY,
    "agentId": params.AGENT,
    "search": params.Text(max_length=256),
}
ONE: params.Rules = {"key": params.KEY, "agentId": params.AGENT}
_MAX_PREVIEWS = 100
# Sessions of which one socket hears each message; whoever wants more hears of all.
_MAX_MESSAGE_KEYS = 20_000


class SessionMethods:
    """Handlers that only read, and the subscriptions of a socket."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._sessions = services.sessions

    def table(self) -> tuple[Method, ...]:
        read = scopes.READ
        message_rules: params.Rules = {**ONE, "includeApprovals": params.Flag()}
        return (
            Method("sessions.list", read, self.list_sessions, _LIST_RULES),
            Method("sessions.subscribe", read, self.subscribe, _LIST_RULES),
            Method("sessions.unsubscribe", read, self.unsubscribe),
            Method("sessions.messages.subscribe", read, self.subscribe_messages, message_rules),
            Method("sessions.messages.unsubscribe", read, self.unsubscribe_messages, ONE),
            Method("sessions.describe", read, self.describe, ONE),
            Method("sessions.resolve", read, self.resolve, {"agentId": params.AGENT, "allowMissing": params.Flag()}),
            Method("sessions.get", read, self.get, {**ONE, "limit": params.Whole(minimum=1, maximum=1000)}),
            Method(
                "sessions.preview",
                read,
                self.preview,
                {
                    "keys": params.Texts(required=True, max_items=_MAX_PREVIEWS),
                    "limit": params.Whole(minimum=1, maximum=50),
                    "maxChars": params.Whole(minimum=20, maximum=10_000),
                },
            ),
            Method("sessions.groups.list", read, self.list_groups),
        )

    async def list_sessions(self, call: Call) -> object:
        return await listing.list_sessions(self._services, call.params)

    async def subscribe(self, call: Call) -> object:
        call.connection.wants_sessions = True
        # A list read after this answer must not be older than the first event that is heard.
        await self._services.streams.ensure_attached()
        if not call.params:
            return {"subscribed": True}
        return {"subscribed": True, "list": await listing.list_sessions(self._services, call.params)}

    async def unsubscribe(self, call: Call) -> object:
        call.connection.wants_sessions = False
        return {"subscribed": False}

    async def subscribe_messages(self, call: Call) -> object:
        key = self._session(call).key
        keys = call.connection.message_keys
        if len(keys) >= _MAX_MESSAGE_KEYS and key not in keys:
            raise errors.invalid_request(
                f"one connection subscribes to the messages of at most {_MAX_MESSAGE_KEYS} sessions; "
                "sessions.subscribe hears of all"
            )
        keys.add(key)
        await self._services.streams.ensure_attached()
        answer: dict[str, object] = {"subscribed": True, "key": key}
        if call.params.get("includeApprovals"):
            answer["approvalReplay"] = {
                "sessionKey": key,
                "updatedAtMs": self._services.now_ms(),
                "approvals": [],
                "truncated": False,
            }
        return answer

    async def unsubscribe_messages(self, call: Call) -> object:
        key = self._session(call).key
        call.connection.message_keys.discard(key)
        return {"subscribed": False, "key": key}

    async def describe(self, call: Call) -> object:
        view = session_api.SessionView(
            derived_title=bool(call.params.get("includeDerivedTitles")),
            last_message_preview=bool(call.params.get("includeLastMessage")),
        )
        session = await listing.find_session(self._services, self._session(call), view)
        return {"session": shapes.session_row(session) if session else None}

    async def resolve(self, call: Call) -> object:
        request, what = _reference(call.params)
        if call.params.get("agentId"):
            request.bot = self._services.keys.bot(call.params["agentId"])
        try:
            response = await self._sessions.ResolveSession(request)
        except grpc.aio.AioRpcError as error:
            refusal = status.from_rpc_error(error)
            # A reference that cannot be a session's is one that no session has.
            if refusal.code == "NOT_FOUND" or refusal.reason == app_errors.RESOURCE_NAME_INVALID:
                if call.params.get("allowMissing"):
                    return {"ok": False}
                raise errors.invalid_request(f"No session found{what}", reason="session-not-found") from None
            raise
        session = response.session
        answer: dict[str, object] = {"ok": True, "key": key_of(session.name), "agentId": agent_of(session.name)}
        if session.display_name or session.label:
            answer["displayName"] = session.display_name or session.label
        return answer

    async def get(self, call: Call) -> object:
        limit = call.params.get("limit") or history.DEFAULT_LIMIT
        return {"messages": await history.read_messages(self._services, self._session(call), limit)}

    async def preview(self, call: Call) -> object:
        limit, max_chars = call.params.get("limit") or 12, call.params.get("maxChars") or 240
        previews = [await listing.preview(self._services, key, limit, max_chars) for key in call.params["keys"]]
        return {"ts": self._services.now_ms(), "previews": previews}

    async def list_groups(self, _: Call) -> object:
        response = await self._sessions.ListGroups(session_api.ListGroupsRequest())
        return {
            "groups": [{"name": group.group, "position": group.position} for group in response.groups],
            "sectionOrder": [],
        }

    def _session(self, call: Call) -> SessionName:
        return self._services.keys.session(call.params["key"], call.params.get("agentId"))


def _reference(given: Mapping[str, Any]) -> tuple[session_api.ResolveSessionRequest, str]:
    """The request, and how the reference reads at the end of "No session found"."""
    by_field = (("key", "key"), ("sessionId", "uid"), ("label", "label"), ("shortId", "short_id"), ("reference", "any"))
    for client_name, field in by_field:
        value = given.get(client_name)
        if isinstance(value, Mapping):
            # The Control UI asks so for the session in its address: {"key", "slug"?}.
            field, value = "key", value.get("key")
        if value is None:
            continue
        if not isinstance(value, str) or not value or len(value) > 512:
            raise errors.invalid_request(f"invalid sessions.resolve params: at /{client_name}: must be string")
        request = session_api.ResolveSessionRequest()
        setattr(request, field, value)
        return request, f" with label: {value}" if client_name == "label" else f": {value}"
    raise errors.invalid_request("invalid sessions.resolve params: must have one of key, sessionId, label, shortId")
