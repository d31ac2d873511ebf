"""sessions.create, patch, reset and delete."""

from collections.abc import Mapping
from typing import Any

import grpc.aio
from google.protobuf import field_mask_pb2

from chassis import errors as app_errors
from chassis import status
from chassis.resource_names import SessionName
from gateway import errors, params, scopes, shapes
from gateway.dispatch import Call, Method
from gateway.keys import MAIN, agent_of, key_of
from gateway.methods.listing import find_session
from gateway.methods.resetting import ensure_session, reset_session
from gateway.methods.sending import deliver, user_draft
from gateway.methods.sessions import ONE
from gateway.services import Services
from gateway.stopping import stop_run
from mobot.session.v1 import session_pb2
from mobot.session.v1 import session_service_pb2 as session_api

_LABEL = params.Text(min_length=1, max_length=512)
_LABEL_OR_NONE = params.Text(min_length=1, max_length=512, nullable=True)
_TEXT_OR_NONE = params.Text(max_length=1024, nullable=True)
_EXPECTED = params.Text(min_length=1, max_length=64)

_CREATE_RULES: params.Rules = {
    "key": params.OPTIONAL_KEY,
    "idempotencyKey": params.Text(min_length=1, max_length=190),
    "agentId": params.AGENT,
    "label": _LABEL,
    "displayName": params.Text(min_length=1, max_length=500),
    "category": params.Text(min_length=1, max_length=128),
    "model": params.Text(min_length=1, max_length=256),
    "thinkingLevel": params.Text(min_length=1, max_length=64),
    "parentSessionKey": params.OPTIONAL_KEY,
    "succeedsParent": params.Flag(),
    "fork": params.Flag(),
    "task": params.Text(),
    "message": params.Text(),
    "persistent": params.Flag(),
    "resumeIfExists": params.Flag(),
    "description": params.Text(max_length=4096),
    "template": params.Text(min_length=1, max_length=80),
}
_PATCH_RULES: params.Rules = {
    "key": params.KEY,
    "agentId": params.AGENT,
    "expectedSessionId": _EXPECTED,
    "expectedMarkedUnreadAt": params.Whole(minimum=0, nullable=True),
    "label": _LABEL_OR_NONE,
    "displayName": params.Text(max_length=500, nullable=True),
    "icon": params.Text(max_length=64, nullable=True),
    "color": params.Text(max_length=32, nullable=True),
    "category": params.Text(min_length=1, max_length=128, nullable=True),
    "archived": params.Flag(),
    "pinned": params.Flag(),
    "unread": params.Flag(),
    "model": params.Text(min_length=1, max_length=256, nullable=True),
    "persistent": params.Flag(),
    "description": params.Text(max_length=4096, nullable=True),
    **dict.fromkeys(sorted(shapes.ROW_OVERRIDES), _TEXT_OR_NONE),
}
# Client name -> field of a session that takes the value as it is; null clears it.
_PLAIN_FIELDS: Mapping[str, str] = {
    "label": "label",
    "displayName": "display_name",
    "icon": "icon",
    "color": "color",
    "category": "group",
    "model": "model",
    "description": "description",
}
_FLAG_FIELDS: Mapping[str, str] = {"pinned": "pinned", "unread": "unread", "persistent": "persistent"}


class SessionChangeMethods:
    """Handlers that change sessions; the rules are the session service's.

    Changes carry a request id where the client names one, and only then: nobody repeats a call of ours by itself, and
    to remember an id costs as much as the change.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._sessions = services.sessions

    def table(self) -> tuple[Method, ...]:
        write, admin = scopes.WRITE, scopes.ADMIN
        return (
            Method("sessions.create", write, self.create, _CREATE_RULES),
            Method("sessions.patch", write, self.patch, _PATCH_RULES),
            Method(
                "sessions.reset",
                admin,
                self.reset,
                {**ONE, "expectedSessionId": _EXPECTED, "reason": params.Text(choices=("new", "reset"))},
            ),
            Method("sessions.delete", write, self.delete, {**ONE, "expectedSessionId": _EXPECTED}),
        )

    async def create(self, call: Call) -> object:
        given = call.params
        services = self._services
        key, parent_key, first = (
            given.get("key"),
            given.get("parentSessionKey"),
            given.get("message") or given.get("task"),
        )
        name = services.keys.session(key, given.get("agentId")) if key else None
        parent = services.keys.session(parent_key, field="parentSessionKey") if parent_key else None
        session = session_pb2.Session(
            created_via="operator",
            user_created=True,
            parent=parent.name if parent else "",
            persistent=bool(given.get("persistent")),
        )
        for client_name, field in _PLAIN_FIELDS.items():
            if given.get(client_name):
                setattr(session, field, given[client_name])
        if given.get("thinkingLevel"):
            session.overrides["thinkingLevel"] = given["thinkingLevel"]
        resume = given.get("resumeIfExists")
        request = session_api.CreateSessionRequest(
            parent=services.keys.bot(name.bot if name else given.get("agentId")),
            session_id=name.session if name else "",
            session=session,
            conflict_policy=session_api.CONFLICT_POLICY_FAIL
            if resume is False
            else session_api.CONFLICT_POLICY_USE_EXISTING,
            request_id=_request_id("create", given.get("idempotencyKey")),
            # "Start over" from a session is a reset of it by another name.
            succeeds_parent=bool(given.get("succeedsParent")),
        )
        if given.get("template"):
            # An extra of ours: "plan" or "templates/plan".
            request.template = f"templates/{given['template'].removeprefix('templates/')}"
        if given.get("fork") and parent is not None:
            request.based_on.session = parent.name
        try:
            response = await self._sessions.CreateSession(request)
        except grpc.aio.AioRpcError as error:
            if status.from_rpc_error(error).reason != "SESSION_DELETED":
                raise
            response = await self._revive(f"{request.parent}/sessions/{request.session_id}")
        created = response.session
        if not response.created and resume is None:
            created = await self._adopt(created, given)
        answer = {"ok": True, "key": key_of(created.name), **await self._stored(created), "runStarted": False}
        answer["sessionId"] = created.uid
        answer["created"] = response.created
        if first:
            answer |= await self._first_message(created, first, given)
        return answer

    async def patch(self, call: Call) -> object:
        name = self._session(call)
        given = call.params
        session = session_pb2.Session(name=name.name)
        paths: list[str] = []
        for client_name, field in _PLAIN_FIELDS.items():
            if client_name in given:
                setattr(session, field, given[client_name] or "")
                paths.append(field)
        for client_name, field in _FLAG_FIELDS.items():
            if client_name in given:
                setattr(session, field, given[client_name])
                paths.append(field)
        for client_name in shapes.ROW_OVERRIDES & given.keys():
            if given[client_name] is not None:
                session.overrides[client_name] = given[client_name]
            paths.append(f"overrides.{client_name}")
        if "expectedMarkedUnreadAt" in given and given.get("unread") is False:
            current = await find_session(self._services, name)
            if current is not None and _marked_unread_at(current) != given["expectedMarkedUnreadAt"]:
                return await self._patched(current)
        changed = await self._apply(name, session, paths, given)
        return await self._patched(changed)

    async def reset(self, call: Call) -> object:
        session = await reset_session(
            self._services,
            self._session(call),
            reason=call.params.get("reason") or "reset",
            expected_uid=call.params.get("expectedSessionId") or "",
        )
        return {"ok": True, "key": key_of(session.name), **await self._stored(session)}

    async def delete(self, call: Call) -> object:
        name = self._session(call)
        expected = call.params.get("expectedSessionId") or ""
        current = await find_session(self._services, name)
        if current is not None and current.active_runs and _may_be_deleted(current, expected):
            await stop_run(self._sessions, self._services.router, current)
        response = await self._sessions.DeleteSession(
            session_api.DeleteSessionRequest(name=name.name, expected_uid=expected, allow_missing=True)
        )
        return {"ok": True, "key": name.key, "deleted": response.deleted, "archived": []}

    # Pieces.

    async def _apply(
        self, name: SessionName, session: session_pb2.Session, paths: list[str], given: Mapping[str, Any]
    ) -> session_pb2.Session:
        expected = given.get("expectedSessionId") or ""
        if paths:
            update = session_api.UpdateSessionRequest(
                session=session,
                update_mask=field_mask_pb2.FieldMask(paths=paths),
                expected_uid=expected,
                allow_missing=True,
            )
            changed = (await self._sessions.UpdateSession(update)).session
        else:
            # A patch of a missing key creates it, also one that changes nothing.
            changed = await ensure_session(self._services, name)
        archived = given.get("archived")
        if archived is None or archived == (changed.state == session_pb2.SESSION_STATE_ARCHIVED):
            return changed
        if archived:
            archive = session_api.ArchiveSessionRequest(name=name.name, expected_uid=expected, reason="operator")
            return (await self._sessions.ArchiveSession(archive)).session
        unarchive = session_api.UnarchiveSessionRequest(name=name.name)
        return (await self._sessions.UnarchiveSession(unarchive)).session

    async def _revive(self, name: str) -> session_api.CreateSessionResponse:
        """A deleted session under the same key comes back, with an empty transcript unless it is protected."""
        undelete = session_api.UndeleteSessionRequest(name=name)
        session = (await self._sessions.UndeleteSession(undelete)).session
        if not session.persistent:
            reset = session_api.ResetSessionRequest(name=name, reason="created again")
            session = (await self._sessions.ResetSession(reset)).session
        return session_api.CreateSessionResponse(session=session, created=False)

    async def _adopt(self, existing: session_pb2.Session, given: Mapping[str, Any]) -> session_pb2.Session:
        """Creating a key that exists takes the session over as it is, with the label that was given."""
        session = session_pb2.Session(name=existing.name)
        paths: list[str] = []
        for client_name, field in (("label", "label"), ("category", "group"), ("description", "description")):
            if given.get(client_name) and getattr(existing, field) != given[client_name]:
                setattr(session, field, given[client_name])
                paths.append(field)
        if given.get("persistent") is not None and existing.persistent != given["persistent"]:
            session.persistent = given["persistent"]
            paths.append("persistent")
        if not paths:
            return existing
        response = await self._sessions.UpdateSession(
            session_api.UpdateSessionRequest(
                session=session,
                update_mask=field_mask_pb2.FieldMask(paths=paths),
                request_id=_request_id("adopt", given.get("idempotencyKey")),
            )
        )
        return response.session

    async def _first_message(
        self, session: session_pb2.Session, text: str, given: Mapping[str, Any]
    ) -> dict[str, object]:
        run = given.get("idempotencyKey") or self._services.new_id()
        draft = user_draft(self._services, session.name, text, run, given)
        try:
            receipt = await deliver(self._services, draft)
        except app_errors.AppError as error:
            # The session exists; only its first turn did not start, and the answer says why.
            return {"runStarted": False, "runError": errors.to_shape(error).to_json()}
        except errors.RequestRefused as refusal:
            return {"runStarted": False, "runError": refusal.shape.to_json()}
        return {"runStarted": True, "runId": receipt.run, "status": "started"}

    def _session(self, call: Call) -> SessionName:
        return self._services.keys.session(call.params["key"], call.params.get("agentId"))

    async def _stored(self, session: session_pb2.Session) -> dict[str, object]:
        await self._services.bots.warm()
        model = self._services.bots.model(agent_of(session.name))
        return {"entry": shapes.entry(session), "resolved": shapes.resolved_model(session, model)}

    async def _patched(self, session: session_pb2.Session) -> dict[str, object]:
        return {"ok": True, "path": "mobot", "key": key_of(session.name), **await self._stored(session)}


def _may_be_deleted(session: session_pb2.Session, expected_uid: str) -> bool:
    """False for what the session service is going to refuse, for which nothing need be stopped."""
    if session.name.endswith(f"/sessions/{MAIN}"):
        return False
    return session.uid == expected_uid if expected_uid else not session.persistent


def _marked_unread_at(session: session_pb2.Session) -> int | None:
    return shapes.millis(session.mark_unread_time) if session.HasField("mark_unread_time") else None


def _request_id(what: str, idempotency_key: str | None) -> str:
    return f"{what}:{idempotency_key}" if idempotency_key else ""
