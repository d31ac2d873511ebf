"""A bot's own sessions as its turns see them; those of other bots look like missing ones."""

from datetime import datetime

from bot_sdk import convert
from bot_sdk.model import Entry, SessionInfo, SessionPage, TurnContext
from bot_sdk.stubs import Stubs, acting_for, answer
from mobot.session.v1 import session_pb2, session_service_pb2

_TALK = ("message",)
_TALK_AND_TOOLS = ("message", "tool_called", "tool_returned")


class Sessions:
    """The sessions of one bot, `bots/{bot}`."""

    def __init__(self, stubs: Stubs, bot: str) -> None:
        self._stubs = stubs
        self._bot = bot
        self._metadata = acting_for(bot)

    async def list(
        self,
        *,
        limit: int = 20,
        offset: int = 0,
        text: str = "",
        label: str = "",
        group: str = "",
        archived: bool = False,
        active_since: datetime | None = None,
        titles: bool = False,
        last_messages: bool = False,
    ) -> SessionPage:
        """Sessions, pinned and newest activity first."""
        request = session_service_pb2.ListSessionsRequest(
            filter=session_service_pb2.SessionFilter(bots=[self._bot], text=text, label=label, group=group),
            page_size=limit,
            offset=offset,
            count_total=True,
            view=session_service_pb2.SessionView(derived_title=titles, last_message_preview=last_messages),
        )
        request.filter.states.append(
            session_pb2.SESSION_STATE_ARCHIVED if archived else session_pb2.SESSION_STATE_ACTIVE
        )
        if active_since is not None:
            request.filter.active_since.FromDatetime(active_since)
        response = await answer(self._stubs.session.ListSessions(request, metadata=self._metadata))
        return SessionPage(tuple(map(convert.to_session, response.sessions)), response.total_count)

    async def resolve(self, reference: str) -> SessionInfo:
        """The one session that a key, an id, a label or a transcript's uid means.

        Raises:
            NotFound: there is none.
            InvalidArgument: there are several (SESSION_AMBIGUOUS).
        """
        request = session_service_pb2.ResolveSessionRequest(bot=self._bot, any=reference)
        response = await answer(self._stubs.session.ResolveSession(request, metadata=self._metadata))
        return convert.to_session(response.session)

    async def recent(
        self, session: str, *, limit: int, tools: bool = False, before_sequence: int = 0, max_bytes: int = 0
    ) -> tuple[Entry, ...]:
        """The newest entries of a session's transcript, oldest of them first."""
        request = session_service_pb2.ListEventsRequest(
            parent=session,
            filter=session_service_pb2.EventFilter(
                kinds=_TALK_AND_TOOLS if tools else _TALK, before_sequence=before_sequence
            ),
            descending=True,
            page_size=limit,
            max_bytes=max_bytes,
        )
        response = await answer(self._stubs.session.ListEvents(request, metadata=self._metadata))
        return convert.to_entries(reversed(response.events))

    async def of_run(self, session: str, run: str, *, limit: int = 200) -> tuple[Entry, ...]:
        """What was said and done in one run, oldest first."""
        request = session_service_pb2.ListEventsRequest(
            parent=session,
            filter=session_service_pb2.EventFilter(kinds=_TALK_AND_TOOLS, run=run, session_uid="*"),
            page_size=limit,
        )
        response = await answer(self._stubs.session.ListEvents(request, metadata=self._metadata))
        return convert.to_entries(response.events)

    async def turn_context(self, session: str, run: str, *, max_events: int = 0, max_bytes: int = 0) -> TurnContext:
        """What a turn of `run` begins or goes on with."""
        request = session_service_pb2.GetTurnContextRequest(
            session=session, run=run, max_events=max_events, max_bytes=max_bytes
        )
        response = await answer(self._stubs.session.GetTurnContext(request, metadata=self._metadata))
        return TurnContext(
            session=convert.to_session(response.session),
            summary=response.summary.summary.text,
            history=convert.to_entries(response.events),
            committed=convert.to_entries(response.run_events),
            truncated=response.truncated,
        )
