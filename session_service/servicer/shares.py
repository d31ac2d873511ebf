"""The calls about share links, and reading through one."""

# ruff: noqa: ARG002 - gRPC gives every method a context

import secrets
from functools import partial

from chassis.errors import field_invalid
from chassis.identity import caller
from chassis.paging import clamp_page_size
from mobot.session.v1 import session_service_pb2
from session_service.convert import checks, queries, shares
from session_service.domain.share import hash_of
from session_service.domain.transfer_errors import ShareLinkNotFound
from session_service.servicer.calls import Calls
from session_service.store import sharing
from session_service.store.transaction import micros

_TOKEN_BYTES = 32


class ShareCalls(Calls):
    """Create, list, revoke, read."""

    async def CreateShareLink(
        self, request: session_service_pb2.CreateShareLinkRequest, context: object
    ) -> session_service_pb2.CreateShareLinkResponse:
        name = self._visible(request.parent, field="parent")
        given = request.share_link
        through = checks.check_not_negative("share_link.through_sequence", given.through_sequence)
        expire_time = None
        if given.HasField("expire_time"):
            expire_time = checks.from_timestamp("share_link.expire_time", given.expire_time)
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        create = partial(
            sharing.create_link,
            name=name,
            link_id=self._new_id(),
            token=token,
            actor=caller().actor,
            through=through,
            expire_time=expire_time,
        )
        return await self._once(
            request,
            create,
            lambda link: session_service_pb2.CreateShareLinkResponse(share_link=shares.to_proto_link(link, token)),
            session_service_pb2.CreateShareLinkResponse,
        )

    async def RevokeShareLink(
        self, request: session_service_pb2.RevokeShareLinkRequest, context: object
    ) -> session_service_pb2.RevokeShareLinkResponse:
        session, link_id = shares.from_proto_link_name(request.name)
        name = self._visible(session.name)
        return await self._once(
            request,
            partial(sharing.revoke_link, name=name, link_id=link_id),
            lambda link: session_service_pb2.RevokeShareLinkResponse(share_link=shares.to_proto_link(link)),
            session_service_pb2.RevokeShareLinkResponse,
        )

    async def ListShareLinks(
        self, request: session_service_pb2.ListShareLinksRequest, context: object
    ) -> session_service_pb2.ListShareLinksResponse:
        name = self._visible(request.parent, field="parent")
        query = queries.page_query(request, bot=None, paging=("page_token", "page_size"))
        after = str(self._page_tokens.decode(query, request.page_token)[0]) if request.page_token else ""
        size = clamp_page_size(request.page_size, default=100, maximum=1_000)
        page = await self._store.read(partial(sharing.list_links, name=name, after=after, size=size))
        return session_service_pb2.ListShareLinksResponse(
            share_links=[shares.to_proto_link(link) for link in page.links],
            next_page_token=self._page_tokens.encode(query, (page.links[-1].link_id,)) if page.more else "",
            as_of=self._watch_tokens.encode(page.as_of),
        )

    async def GetSharedSession(
        self, request: session_service_pb2.GetSharedSessionRequest, context: object
    ) -> session_service_pb2.GetSharedSessionResponse:
        token = request.token
        if not token:
            raise field_invalid("token", "must be set")
        if len(token) > shares.MAX_TOKEN:
            raise ShareLinkNotFound("")
        size = clamp_page_size(request.page_size, default=200, maximum=1_000)
        query = {"shared": hash_of(token).hex()}
        after = int(self._page_tokens.decode(query, request.page_token)[0]) if request.page_token else 0
        now = micros(self._store.clock.now())
        page = await self._store.read(partial(sharing.read_shared, token=token, now=now, after=after, size=size))
        more = self._page_tokens.encode(query, (page.events[-1].sequence,)) if page.more else ""
        return shares.to_proto_shared(page, more)
