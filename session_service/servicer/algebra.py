"""The calls that make one session out of others: fork, merge."""

# ruff: noqa: ARG002 - gRPC gives every method a context

from functools import partial

from chassis.errors import field_invalid
from chassis.identity import caller
from chassis.resource_names import bot_name
from mobot.session.v1 import session_pb2, session_service_pb2
from session_service.convert import checks, sessions
from session_service.convert.copies import copy_event, encode_merged
from session_service.domain.session import Draft, Fields, Provenance
from session_service.servicer.sessions import SessionCalls
from session_service.store import merging


class AlgebraCalls(SessionCalls):
    """Fork, merge."""

    async def ForkSession(
        self, request: session_service_pb2.ForkSessionRequest, context: object
    ) -> session_service_pb2.ForkSessionResponse:
        source = self._visible_parts(request.source, field="source")
        create = session_service_pb2.CreateSessionRequest()
        create.CopyFrom(request.target)
        if not create.parent:
            create.parent = bot_name(source.bot)
        create.based_on.CopyFrom(session_pb2.ForkOrigin(session=source.name, sequence=request.sequence))
        creation = await self._create(create)
        return session_service_pb2.ForkSessionResponse(session=creation.session)

    async def MergeSessions(
        self, request: session_service_pb2.MergeSessionsRequest, context: object
    ) -> session_service_pb2.MergeSessionsResponse:
        sources = [self._visible(name, field="sources") for name in dict.fromkeys(request.sources)]
        checks.check_count("sources", sources, minimum=2, maximum=16)
        target = self._visible_parts(request.target, field="target")
        if target.name in sources:
            raise field_invalid("target", "must not be one of the sources; what is merged stays where it is, too")
        await self._bots.check(target.bot)
        actor = caller().actor
        copies = await self._store.read(partial(merging.read_sources, names=sources, copy=copy_event))
        merge = partial(
            merging.merge_into,
            target=Draft(target.bot, target.session, Fields(), Provenance(created_by=actor)),
            copies=copies,
            sources=sources,
            actor=actor,
            encode=encode_merged,
        )
        return await self._once(request, merge, _to_merged, session_service_pb2.MergeSessionsResponse, bulk=True)


def _to_merged(merged: merging.Merged) -> session_service_pb2.MergeSessionsResponse:
    return session_service_pb2.MergeSessionsResponse(
        session=sessions.to_proto_session(merged.session), event_count=merged.event_count
    )
