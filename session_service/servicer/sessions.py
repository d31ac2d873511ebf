"""The calls about sessions as a whole."""

# ruff: noqa: ARG002 - gRPC gives every method a context

from collections.abc import Callable, Sequence
from functools import partial

from chassis.errors import AppError, field_invalid
from chassis.identity import bot_of, caller
from chassis.paging import clamp_page_size
from chassis.resource_names import SessionName, parse_bot, parse_session
from mobot.session.v1 import session_pb2, session_service_pb2
from session_service.convert import checks, queries, sessions
from session_service.convert.copies import amend, copy_event
from session_service.convert.refusals import to_proto_refusal
from session_service.convert.templates import from_proto_template_name
from session_service.domain.errors import BotNotFound
from session_service.domain.session import Draft, Session
from session_service.servicer.calls import Calls
from session_service.store import changing, forking, grouping, purging
from session_service.store.transaction import Transaction

_POLICIES = {
    session_service_pb2.CONFLICT_POLICY_UNSPECIFIED: "FAIL",
    session_service_pb2.CONFLICT_POLICY_FAIL: "FAIL",
    session_service_pb2.CONFLICT_POLICY_USE_EXISTING: "USE_EXISTING",
    session_service_pb2.CONFLICT_POLICY_REPLACE: "REPLACE",
}
_PAGING = ("page_token", "page_size", "offset", "count_total", "view")
_Update = Callable[[Transaction], Session]


class SessionCalls(Calls):
    """Create, read, change, end."""

    async def CreateSession(
        self, request: session_service_pb2.CreateSessionRequest, context: object
    ) -> session_service_pb2.CreateSessionResponse:
        return await self._create(request)

    async def _create(
        self, request: session_service_pb2.CreateSessionRequest
    ) -> session_service_pb2.CreateSessionResponse:
        actor = caller().actor
        bot = self._own_bot(parse_bot(request.parent, field="parent"))
        policy = _POLICIES.get(request.conflict_policy)
        if policy is None:
            raise field_invalid("conflict_policy", "is not a policy", value=str(request.conflict_policy))
        template = f"templates/{from_proto_template_name(request.template, 'template')}" if request.template else ""
        session_id = request.session_id or f"dashboard:{self._new_id()}"
        draft = sessions.from_proto_draft(bot, session_id, request.session, actor, template=template)
        await self._bots.check(bot)
        succeeds = request.succeeds_parent
        if succeeds and not request.session.parent:
            raise field_invalid("session.parent", "must be set for a session that succeeds it")
        create = partial(changing.create_session, draft=draft, actor=actor, policy=policy, succeeds_parent=succeeds)
        if request.HasField("based_on"):
            prefix = await self._prefix(request.based_on)
            create = partial(
                forking.create_fork,
                draft=draft,
                prefix=prefix,
                actor=actor,
                policy=policy,
                amend=amend,
                succeeds_parent=succeeds,
            )
        return await self._once(
            request,
            create,
            _to_creation,
            session_service_pb2.CreateSessionResponse,
            bulk=request.HasField("based_on"),
        )

    async def GetSession(
        self, request: session_service_pb2.GetSessionRequest, context: object
    ) -> session_service_pb2.GetSessionResponse:
        session = await self._store.get_session(self._visible(request.name))
        return session_service_pb2.GetSessionResponse.FromString(self._lines.join((session,), request.view))

    async def BatchGetSessions(
        self, request: session_service_pb2.BatchGetSessionsRequest, context: object
    ) -> session_service_pb2.BatchGetSessionsResponse:
        checks.check_count("names", request.names, minimum=1, maximum=200)
        own_bot = bot_of(caller())
        names = dict.fromkeys(request.names)
        visible = [name for name in names if own_bot in (None, parse_session(name, field="names").bot)]
        found = await self._store.find_sessions(visible)
        return session_service_pb2.BatchGetSessionsResponse(
            sessions=[sessions.to_proto_session(found[name], request.view) for name in names if name in found],
            missing=[name for name in names if name not in found],
        )

    async def ResolveSession(
        self, request: session_service_pb2.ResolveSessionRequest, context: object
    ) -> session_service_pb2.ResolveSessionResponse:
        reference = queries.from_proto_reference(request)
        bots = self._confined(reference.bots)
        session = await self._store.resolve(bots, reference.kind, reference.text)
        return session_service_pb2.ResolveSessionResponse(session=sessions.to_proto_session(session))

    async def ListSessions(
        self, request: session_service_pb2.ListSessionsRequest, context: object
    ) -> session_service_pb2.ListSessionsResponse:
        which = queries.from_proto_filter(request.filter)
        which = which._replace(bots=self._confined(which.bots))
        query = queries.page_query(request, bot=bot_of(caller()), paging=_PAGING)
        after = None
        if request.page_token:
            rank, name = self._page_tokens.decode(query, request.page_token)
            after = (int(rank), str(name))
        page = await self._store.list_sessions(
            which,
            queries.from_proto_order(request.order),
            size=clamp_page_size(request.page_size, default=100, maximum=1_000),
            after=after,
            offset=queries.from_proto_offset(request.offset),
            count=request.count_total,
        )
        response = session_service_pb2.ListSessionsResponse.FromString(self._lines.join(page.sessions, request.view))
        if page.position:
            response.next_page_token = self._page_tokens.encode(query, page.position)
        response.as_of = self._watch_tokens.encode(page.as_of)
        response.total_count = page.total
        return response

    async def UpdateSession(
        self, request: session_service_pb2.UpdateSessionRequest, context: object
    ) -> session_service_pb2.UpdateSessionResponse:
        update = await self._update(request)
        return await self._once(request, update, _to_updated, session_service_pb2.UpdateSessionResponse)

    async def BatchUpdateSessions(
        self, request: session_service_pb2.BatchUpdateSessionsRequest, context: object
    ) -> session_service_pb2.BatchUpdateSessionsResponse:
        checks.check_count("requests", request.requests, minimum=1, maximum=100)
        updates: list[_Update] = []
        for item in request.requests:
            if item.request_id:
                raise field_invalid("requests.request_id", "is not kept for the items of a batch")
            updates.append(await self._update_or_refusal(item))
        results = await self._store.write_each(updates)
        response = session_service_pb2.BatchUpdateSessionsResponse()
        for item, result in zip(request.requests, results, strict=True):
            if isinstance(result, AppError):
                response.outcomes.append(to_proto_refusal(item.session.name, result))
            else:
                response.outcomes.add(name=item.session.name)
                response.sessions.append(sessions.to_proto_session(result))
        return response

    async def ResetSession(
        self, request: session_service_pb2.ResetSessionRequest, context: object
    ) -> session_service_pb2.ResetSessionResponse:
        name = self._visible(request.name)
        reset = partial(
            changing.reset_session,
            name=name,
            expected=changing.Expected(request.expected_uid, request.etag),
            reason=checks.check_text("reason", request.reason, 256),
            actor=caller().actor,
            restore_uid=request.restore_uid,
            validate_only=request.validate_only,
        )
        return await self._once(
            request,
            reset,
            lambda session: session_service_pb2.ResetSessionResponse(session=sessions.to_proto_session(session)),
            session_service_pb2.ResetSessionResponse,
        )

    async def DeleteSession(
        self, request: session_service_pb2.DeleteSessionRequest, context: object
    ) -> session_service_pb2.DeleteSessionResponse:
        name = self._visible(request.name)
        expected = changing.Expected(request.expected_uid, request.etag)
        delete = partial(
            changing.delete_session,
            name=name,
            expected=expected,
            actor=caller().actor,
            retention_us=self._retention_us,
            allow_missing=request.allow_missing,
        )
        return await self._once(request, delete, _to_deletion, session_service_pb2.DeleteSessionResponse)

    async def UndeleteSession(
        self, request: session_service_pb2.UndeleteSessionRequest, context: object
    ) -> session_service_pb2.UndeleteSessionResponse:
        name = self._visible(request.name)
        actor = caller().actor
        return await self._once(
            request,
            lambda tx: changing.undelete_session(tx, name, actor),
            lambda session: session_service_pb2.UndeleteSessionResponse(session=sessions.to_proto_session(session)),
            session_service_pb2.UndeleteSessionResponse,
        )

    async def ArchiveSession(
        self, request: session_service_pb2.ArchiveSessionRequest, context: object
    ) -> session_service_pb2.ArchiveSessionResponse:
        name = self._visible(request.name)
        reason = checks.check_text("reason", request.reason, 256)
        expected = changing.Expected(request.expected_uid)
        actor = caller().actor
        return await self._once(
            request,
            lambda tx: changing.archive_session(tx, name, expected, reason, actor),
            lambda session: session_service_pb2.ArchiveSessionResponse(session=sessions.to_proto_session(session)),
            session_service_pb2.ArchiveSessionResponse,
        )

    async def UnarchiveSession(
        self, request: session_service_pb2.UnarchiveSessionRequest, context: object
    ) -> session_service_pb2.UnarchiveSessionResponse:
        name = self._visible(request.name)
        actor = caller().actor
        return await self._once(
            request,
            lambda tx: changing.unarchive_session(tx, name, actor),
            lambda session: session_service_pb2.UnarchiveSessionResponse(session=sessions.to_proto_session(session)),
            session_service_pb2.UnarchiveSessionResponse,
        )

    async def PurgeSession(
        self, request: session_service_pb2.PurgeSessionRequest, context: object
    ) -> session_service_pb2.PurgeSessionResponse:
        name = self._visible(request.name)
        if not request.expected_uid:
            raise field_invalid("expected_uid", "must be set")
        return await self._once(
            request,
            lambda tx: purging.purge_session(tx, name, request.expected_uid),
            lambda count: session_service_pb2.PurgeSessionResponse(event_count=count),
            session_service_pb2.PurgeSessionResponse,
        )

    async def ListGroups(
        self, request: session_service_pb2.ListGroupsRequest, context: object
    ) -> session_service_pb2.ListGroupsResponse:
        size = clamp_page_size(request.page_size, default=1_000, maximum=1_000)
        query = queries.page_query(request, bot=None, paging=("page_token", "page_size"))
        start = int(self._page_tokens.decode(query, request.page_token)[0]) if request.page_token else 0
        page = await self._store.list_groups()
        end = start + size
        return session_service_pb2.ListGroupsResponse(
            groups=[_to_group(group) for group in page.groups[start:end]],
            next_page_token=self._page_tokens.encode(query, (end,)) if len(page.groups) > end else "",
            as_of=self._watch_tokens.encode(page.as_of),
        )

    async def UpdateGroups(
        self, request: session_service_pb2.UpdateGroupsRequest, context: object
    ) -> session_service_pb2.UpdateGroupsResponse:
        names = [*request.groups, *request.renames, *request.renames.values(), *request.removals]
        checks.check_count("groups", names, maximum=5_000)
        for name in names:
            if not name:
                raise field_invalid("groups", "must not hold an empty name")
            checks.check_text("groups", name, 128)
        update = partial(
            grouping.update_groups,
            order=list(request.groups),
            renames=dict(request.renames),
            removals=list(request.removals),
        )
        return await self._once(
            request,
            update,
            lambda page: session_service_pb2.UpdateGroupsResponse(groups=[_to_group(group) for group in page.groups]),
            session_service_pb2.UpdateGroupsResponse,
        )

    async def _update(self, request: session_service_pb2.UpdateSessionRequest) -> _Update:
        given = request.session
        name = self._visible_parts(given.name, field="session.name")
        actor = caller().actor
        mask = request.update_mask if request.HasField("update_mask") else None
        change = sessions.from_proto_change(given, mask)
        missing = await self._missing(name, given, actor) if request.allow_missing else None
        expected = changing.Expected(request.expected_uid, given.etag)
        return lambda tx: changing.update_session(tx, name.name, change, actor, expected=expected, missing=missing)

    async def _prefix(self, origin: session_pb2.ForkOrigin) -> forking.Prefix:
        """What a new session begins with when it is based on another one."""
        name = self._visible(origin.session, field="based_on.session")
        sequence = checks.check_not_negative("based_on.sequence", origin.sequence)
        uid = checks.check_text("based_on.session_uid", origin.session_uid, 256)
        read = partial(forking.read_prefix, name=name, uid=uid, sequence=sequence, copy=copy_event)
        return await self._store.read(read)

    async def _missing(self, name: SessionName, given: session_pb2.Session, actor: str) -> Draft:
        await self._bots.check(name.bot)
        return sessions.from_proto_draft(name.bot, name.session, given, actor)

    async def _update_or_refusal(self, request: session_service_pb2.UpdateSessionRequest) -> _Update:
        """An item of a batch that is wrong in itself is refused in its turn, and does not hinder the others."""
        try:
            return await self._update(request)
        except AppError as error:
            refusal = error

        def refuse(tx: Transaction) -> Session:  # noqa: ARG001 - stands where a change stands
            raise refusal

        return refuse

    def _own_bot(self, bot: str) -> str:
        own_bot = bot_of(caller())
        if own_bot not in (None, bot):
            raise BotNotFound(f"bots/{bot}")
        return bot

    def _confined(self, bots: Sequence[str] | None) -> Sequence[str] | None:
        """The bots whose sessions are looked through; a bot sees only its own."""
        own_bot = bot_of(caller())
        if own_bot is None:
            return bots
        return [own_bot] if bots is None or own_bot in bots else []


def _to_creation(creation: changing.Creation) -> session_service_pb2.CreateSessionResponse:
    return session_service_pb2.CreateSessionResponse(
        session=sessions.to_proto_session(creation.session), created=creation.created
    )


def _to_updated(session: Session) -> session_service_pb2.UpdateSessionResponse:
    return session_service_pb2.UpdateSessionResponse(session=sessions.to_proto_session(session))


def _to_deletion(deletion: tuple[Session | None, bool]) -> session_service_pb2.DeleteSessionResponse:
    session, deleted = deletion
    return session_service_pb2.DeleteSessionResponse(
        session=None if session is None else sessions.to_proto_session(session), deleted=deleted
    )


def _to_group(group: grouping.Group) -> session_pb2.SessionGroup:
    return session_pb2.SessionGroup(group=group.name, position=group.position, session_count=group.session_count)
