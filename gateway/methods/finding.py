"""sessions.search and sessions.fork: the session service's search, and a copy to go on from."""

import grpc.aio

from chassis import status
from gateway import errors, params, scopes
from gateway.dispatch import Call, Method
from gateway.keys import key_of
from gateway.services import Services
from gateway.shapes import millis
from gateway.transcript import text_of
from mobot.session.v1 import event_pb2
from mobot.session.v1 import session_service_pb2 as session_api

_MAX_SESSIONS = 200
_MAX_HITS = 25
_ROLES = {event_pb2.ROLE_USER: "user", event_pb2.ROLE_ASSISTANT: "assistant"}
_SEARCH_RULES: params.Rules = {
    "query": params.Text(required=True, min_length=1, max_length=4096),
    "agentId": params.AGENT,
    "sessionKeys": params.Texts(max_items=_MAX_SESSIONS),
    "limit": params.Whole(minimum=1, maximum=_MAX_HITS),
}
_FORK_RULES: params.Rules = {
    "sessionKey": params.KEY,
    "agentId": params.AGENT,
    "entryId": params.Text(required=True, min_length=1, max_length=256),
}


class FindingMethods:
    """Handlers over all sessions, and from one message on."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._sessions = services.sessions

    def table(self) -> tuple[Method, ...]:
        return (
            Method("sessions.search", scopes.READ, self.search, _SEARCH_RULES),
            Method("sessions.fork", scopes.WRITE, self.fork, _FORK_RULES),
        )

    async def search(self, call: Call) -> object:
        """Messages of people and bots, best first."""
        keys, agent = call.params.get("sessionKeys") or (), call.params.get("agentId")
        found = await self._sessions.SearchEvents(
            session_api.SearchEventsRequest(
                query=call.params["query"],
                filter=session_api.SessionFilter(bots=[self._services.keys.bot(agent)] if agent else []),
                sessions=[self._services.keys.session(key, field="sessionKeys").name for key in keys],
                page_size=call.params.get("limit") or _MAX_HITS,
                roles=list(_ROLES),
            )
        )
        answer: dict[str, object] = {"results": [_hit(hit) for hit in found.hits]}
        if found.backlog_count:
            answer["indexing"] = True
        if found.next_page_token:
            answer["truncated"] = True
        return answer

    async def fork(self, call: Call) -> object:
        """A session with everything before one of the user's messages; that message goes back to be written anew."""
        name = self._services.keys.session(call.params["sessionKey"], call.params.get("agentId"), field="sessionKey")
        request = session_api.GetEventRequest(session=name.name, id=call.params["entryId"])
        try:
            event = (await self._sessions.GetEvent(request)).event
        except grpc.aio.AioRpcError as error:
            if status.from_rpc_error(error).code != "NOT_FOUND":
                raise
            raise errors.invalid_request("No such entry in the session", reason="entry-not-found") from None
        if event.message.role != event_pb2.ROLE_USER:
            raise errors.invalid_request("A fork begins before a message of the user", reason="entry-not-user")
        target = session_api.CreateSessionRequest(session_id=f"dashboard:{self._services.new_id()}")
        target.session.user_created = True
        target.session.parent = name.name
        forked = await self._sessions.ForkSession(
            session_api.ForkSessionRequest(source=name.name, sequence=event.sequence - 1, target=target)
        )
        return {"sessionKey": key_of(forked.session.name), "editorText": text_of(event.message.parts)}


def _hit(hit: session_api.SearchHit) -> dict[str, object]:
    event = hit.event
    return {
        "sessionKey": key_of(event.session),
        "sessionId": event.session_uid,
        "messageId": event.id,
        "role": _ROLES[event.message.role],
        "timestamp": millis(event.create_time),
        "snippet": hit.excerpt.replace("\x02", "").replace("\x03", ""),
        "score": hit.score,
    }
