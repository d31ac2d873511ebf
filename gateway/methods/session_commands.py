"""`/session …`: what people do with sessions by typing, whatever client they sit at."""

from collections.abc import Awaitable, Callable, Mapping

import grpc.aio
from google.protobuf import field_mask_pb2

from chassis import status
from chassis.resource_names import SessionName
from gateway import errors
from gateway.api.people import People
from gateway.keys import key_of
from gateway.services import Services
from mobot.session.v1 import session_pb2
from mobot.session.v1 import session_service_pb2 as session_api

USAGE = (
    "/session list [TEXT] - the sessions of this bot\n"
    "/session new NAME - begin another one\n"
    "/session switch NAME - where one is\n"
    "/session rename NAME - call this one so\n"
    "/session protect, /session unprotect - refuse every reset of this one, or no longer\n"
    "/session delete NAME - delete one; it can be restored for a while"
)
_LISTED = 20
_SHORT_UID = 8
# Refused for what was typed or for what the session is: an answer for the person, not a failure of the call.
_ANSWERED = frozenset(
    {"FAILED_PRECONDITION", "ALREADY_EXISTS", "INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED", "ABORTED"}
)

_Verb = Callable[[SessionName, str, str], Awaitable[str]]


class SessionCommands:
    """Each verb returns what is said to the person."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._sessions = services.sessions
        self._verbs: Mapping[str, _Verb] = {
            "list": self._list,
            "new": self._new,
            "switch": self._switch,
            "rename": self._rename,
            "protect": self._protect,
            "unprotect": self._unprotect,
            "delete": self._delete,
        }

    async def run(self, name: SessionName, text: str, run: str) -> str:
        """`name` is the session in which it was typed, `text` what stands behind "/session"."""
        verb, _, rest = text.partition(" ")
        act = self._verbs.get(verb.lower() or "list")
        if act is None:
            return USAGE
        try:
            return await act(name, rest.strip(), run)
        except grpc.aio.AioRpcError as error:
            refusal = status.from_rpc_error(error)
            if refusal.code not in _ANSWERED:
                raise
            return f"⚠️ {errors.to_shape(refusal).message}"

    async def _list(self, name: SessionName, text: str, run: str) -> str:  # noqa: ARG002 - a verb like any other
        page = await self._sessions.ListSessions(
            session_api.ListSessionsRequest(
                filter=session_api.SessionFilter(bots=[f"bots/{name.bot}"], text=text[:256]),
                view=session_api.SessionView(derived_title=True),
                page_size=_LISTED,
                count_total=True,
            )
        )
        lines = [_line(session, here=session.name == name.name) for session in page.sessions]
        if page.total_count > len(lines):
            lines.append(f"… and {page.total_count - len(lines)} more; /session list TEXT narrows.")
        return "\n".join(lines) or "No such sessions."

    async def _new(self, name: SessionName, label: str, run: str) -> str:
        if not label:
            return "⚠️ Say how it is called: /session new NAME"
        made = await self._sessions.CreateSession(
            session_api.CreateSessionRequest(
                parent=f"bots/{name.bot}",
                session=session_pb2.Session(label=label, user_created=True, created_via="operator"),
                request_id=f"command:{run}"[:128],
            )
        )
        return f"✅ Created {_line(made.session)}\n{_way(made.session)}"

    async def _switch(self, name: SessionName, reference: str, run: str) -> str:  # noqa: ARG002
        return _way(await self._meant(name, reference)) if reference else "⚠️ Say which one: /session switch NAME"

    async def _rename(self, name: SessionName, label: str, run: str) -> str:
        if not label:
            return "⚠️ Say how it is called: /session rename NAME"
        return f"✅ {_line(await self._update(name, 'label', run, label=label))}"

    async def _protect(self, name: SessionName, rest: str, run: str) -> str:
        if rest:
            await self._update(name, "label", f"{run}/label", label=rest)
        return f"✅ Protected: {_line(await self._update(name, 'persistent', run, persistent=True))}"

    async def _unprotect(self, name: SessionName, rest: str, run: str) -> str:  # noqa: ARG002
        return f"✅ No longer protected: {_line(await self._update(name, 'persistent', run, persistent=False))}"

    async def _delete(self, name: SessionName, text: str, run: str) -> str:
        """The first characters of the uid confirm it; without them they are told."""
        reference, _, confirmation = text.rpartition(" ")
        session = await self._meant(name, text) if not reference else await self._confirmed(name, text, reference)
        if not reference or not session.uid.startswith(confirmation) or len(confirmation) < _SHORT_UID:
            return (
                f"This deletes {_line(session)}\n"
                f"If you mean it: /session delete {key_of(session.name)} {session.uid[:_SHORT_UID]}"
            )
        request = session_api.DeleteSessionRequest(
            name=session.name, expected_uid=session.uid, request_id=f"command:{run}"[:128]
        )
        await People(self._sessions, self._services.router).prepare(request)
        await self._sessions.DeleteSession(request)
        return f"✅ Deleted {_line(session)}; it can be restored for a while."

    async def _confirmed(self, name: SessionName, text: str, reference: str) -> session_pb2.Session:
        """Names may have spaces: what stands last is a confirmation only when the rest means a session."""
        try:
            return await self._meant(name, reference)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            return await self._meant(name, text)

    async def _meant(self, name: SessionName, reference: str) -> session_pb2.Session:
        request = session_api.ResolveSessionRequest(bot=f"bots/{name.bot}", any=reference)
        return (await self._sessions.ResolveSession(request)).session

    async def _update(
        self, name: SessionName, path: str, run: str, *, label: str = "", persistent: bool = False
    ) -> session_pb2.Session:
        request = session_api.UpdateSessionRequest(
            session=session_pb2.Session(name=name.name, label=label, persistent=persistent),
            update_mask=field_mask_pb2.FieldMask(paths=[path]),
            request_id=f"command:{run}"[:128],
        )
        return (await self._sessions.UpdateSession(request)).session


def _line(session: session_pb2.Session, *, here: bool = False) -> str:
    called = session.label or session.display_name or session.derived_title
    marks = ("● " if session.active_runs else "○ ") + ("🔒 " if session.persistent else "")
    return f"{marks}{key_of(session.name)}{f' - {called}' if called else ''}{' (here)' if here else ''}"


def _way(session: session_pb2.Session) -> str:
    return f"Open it: /?session={key_of(session.name)}"
