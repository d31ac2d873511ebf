"""The calls about templates. They belong to the whole installation: bots read them, operators write them."""

# ruff: noqa: ARG002 - gRPC gives every method a context

from chassis.errors import CALLER_NOT_ALLOWED, PermissionDenied
from chassis.identity import bot_of, caller
from chassis.paging import clamp_page_size
from mobot.session.v1 import session_service_pb2
from session_service.convert import queries
from session_service.convert import templates as convert
from session_service.servicer.calls import Calls
from session_service.store import templates

_PAGING = ("page_token", "page_size")


class TemplateCalls(Calls):
    """Create, read, change, delete."""

    async def CreateTemplate(
        self, request: session_service_pb2.CreateTemplateRequest, context: object
    ) -> session_service_pb2.CreateTemplateResponse:
        _refuse_bots()
        template = convert.from_proto_template(request.template_id, request.template)
        return await self._once(
            request,
            lambda tx: templates.create_template(tx, template),
            lambda created: session_service_pb2.CreateTemplateResponse(template=convert.to_proto_template(created)),
            session_service_pb2.CreateTemplateResponse,
        )

    async def GetTemplate(
        self, request: session_service_pb2.GetTemplateRequest, context: object
    ) -> session_service_pb2.GetTemplateResponse:
        template_id = convert.from_proto_template_name(request.name)
        template = await self._store.read(lambda conn: templates.find_template(conn, template_id))
        return session_service_pb2.GetTemplateResponse(template=convert.to_proto_template(template))

    async def ListTemplates(
        self, request: session_service_pb2.ListTemplatesRequest, context: object
    ) -> session_service_pb2.ListTemplatesResponse:
        size = clamp_page_size(request.page_size, default=100, maximum=1_000)
        query = queries.page_query(request, bot=None, paging=_PAGING)
        after = str(self._page_tokens.decode(query, request.page_token)[0]) if request.page_token else ""
        page = await self._store.read(lambda conn: templates.list_templates(conn, after, size))
        following = (page.templates[-1].template_id,) if page.more else None
        return session_service_pb2.ListTemplatesResponse(
            templates=[convert.to_proto_template(template) for template in page.templates],
            next_page_token=self._page_tokens.encode(query, following) if following else "",
            as_of=self._watch_tokens.encode(page.as_of),
        )

    async def UpdateTemplate(
        self, request: session_service_pb2.UpdateTemplateRequest, context: object
    ) -> session_service_pb2.UpdateTemplateResponse:
        _refuse_bots()
        template_id = convert.from_proto_template_name(request.template.name, "template.name")
        mask = request.update_mask if request.HasField("update_mask") else None
        change = convert.from_proto_template_change(request.template, mask)
        etag = request.template.etag
        return await self._once(
            request,
            lambda tx: templates.update_template(tx, template_id, change, etag=etag),
            lambda changed: session_service_pb2.UpdateTemplateResponse(template=convert.to_proto_template(changed)),
            session_service_pb2.UpdateTemplateResponse,
        )

    async def DeleteTemplate(
        self, request: session_service_pb2.DeleteTemplateRequest, context: object
    ) -> session_service_pb2.DeleteTemplateResponse:
        _refuse_bots()
        template_id = convert.from_proto_template_name(request.name)
        etag = request.etag
        return await self._once(
            request,
            lambda tx: templates.delete_template(tx, template_id, etag=etag),
            lambda _: session_service_pb2.DeleteTemplateResponse(),
            session_service_pb2.DeleteTemplateResponse,
        )


def _refuse_bots() -> None:
    if bot_of(caller()) is not None:
        raise PermissionDenied(
            "templates are changed by operators",
            reason=CALLER_NOT_ALLOWED,
            metadata={"principal": caller().principal, "actor": caller().actor},
        )
