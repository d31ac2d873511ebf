"""Grants: given, taken back, listed, and what was done through them."""

# ruff: noqa: ARG002 - the signatures are gRPC's

from enum import IntEnum

from chassis import resource_names
from chassis.identity import caller
from memory_service.convert import checks
from memory_service.convert.answers import to_proto_mark
from memory_service.convert.grants import (
    check_grant_id,
    from_proto_access_query,
    from_proto_grant,
    from_proto_states,
    parse_grant,
    to_proto_access,
    to_proto_grant,
)
from memory_service.convert.requests import page_size, to_ticket
from memory_service.domain import access
from memory_service.domain.errors import GrantNotFound
from memory_service.servicer.calls import Calls, Context, writable_bot
from memory_service.store.lists import Page
from mobot.memory.v1 import memory_service_pb2 as pb


class _Direction(IntEnum):
    GIVEN = 1
    RECEIVED = 2


class GrantCalls(Calls):
    async def CreateGrant(self, request: pb.CreateGrantRequest, context: Context) -> pb.CreateGrantResponse:
        who, now = caller().actor, self._clock.now()
        bot = writable_bot(who, request.parent)
        checks.required("grant", request.HasField("grant"))
        ticket = to_ticket(request, request.request_id, who)
        grant_id = check_grant_id(request.grant_id) if request.grant_id else self._new_id()
        grant = from_proto_grant(bot, request.grant, grant_id, principal=who, now=now)
        stored = await self._grants.create(grant, ticket)
        return pb.CreateGrantResponse(grant=to_proto_grant(stored, now))

    async def RevokeGrant(self, request: pb.RevokeGrantRequest, context: Context) -> pb.RevokeGrantResponse:
        who = caller().actor
        bot, grant_id = parse_grant(request.name)
        if not access.owns(who, bot):
            raise GrantNotFound(request.name)
        grant = await self._grants.revoke(bot, grant_id, to_ticket(request, request.request_id, who))
        return pb.RevokeGrantResponse(grant=to_proto_grant(grant, self._clock.now()))

    async def ListGrants(self, request: pb.ListGrantsRequest, context: Context) -> pb.ListGrantsResponse:
        bot = access.readable(caller().actor, resource_names.parse_bot(request.parent, field="parent"))
        direction = checks.member("direction", _Direction, request.direction, _Direction.GIVEN)
        size, place = page_size(request.page_size), self._pages.place(request, request.page_token)
        states = from_proto_states(request)
        if direction is _Direction.GIVEN:
            page = await self._grants.list_given(bot, states, size, place)
        else:
            page = await self._grants.list_received(bot, size, place)
        now = self._clock.now()
        return pb.ListGrantsResponse(
            grants=[to_proto_grant(grant, now) for grant in page.items],
            next_page_token=self._pages.next(request, page.next),
            as_of=to_proto_mark(page.revision),
        )

    async def ListAccesses(self, request: pb.ListAccessesRequest, context: Context) -> pb.ListAccessesResponse:
        bot = resource_names.parse_bot(request.parent, field="parent")
        wanted = from_proto_access_query(bot, request)
        size, place = page_size(request.page_size), self._pages.place(request, request.page_token)
        seen = access.readable(caller().actor, bot)
        page = Page((), (), 0) if wanted is None else await self._grants.list_accesses(seen, wanted, size, place)
        return pb.ListAccessesResponse(
            accesses=[to_proto_access(each) for each in page.items],
            next_page_token=self._pages.next(request, page.next),
            as_of=to_proto_mark(page.revision),
        )
