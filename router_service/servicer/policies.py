"""The policy, and the record of decisions."""

from sqlalchemy import Connection

from chassis.identity import Caller
from chassis.paging import PageTokens, QueryValue, clamp_page_size
from mobot.router.v1 import message_pb2, router_service_pb2
from router_service.convert.drafts import check_text
from router_service.convert.policies import read_rules, to_proto_entry, to_proto_policy
from router_service.domain import limits
from router_service.servicer.access import check_operator
from router_service.servicer.guarding import Guard
from router_service.servicer.requests import Requests
from router_service.store import policies
from router_service.store.router_store import RouterStore

_PAGE = 100
_MAX_PAGE = 1_000


class Policies:
    """For operators alone."""

    def __init__(self, store: RouterStore, requests: Requests, guard: Guard, tokens: PageTokens) -> None:
        self._store = store
        self._requests = requests
        self._guard = guard
        self._tokens = tokens

    async def get(self, caller: Caller) -> message_pb2.Policy:
        check_operator(caller)
        return to_proto_policy(await self._store.read(policies.read_policy))

    async def set(
        self, request: router_service_pb2.SetPolicyRequest, caller: Caller
    ) -> router_service_pb2.SetPolicyResponse:
        check_operator(caller)
        rules = read_rules(request.policy)
        entry = self._guard.entry(caller, "policy", "policy", detail=f"{len(rules)} rules")

        def write(conn: Connection) -> router_service_pb2.SetPolicyResponse:
            stored = policies.set_policy(conn, rules, request.policy.etag)
            policies.record(conn, entry)
            return router_service_pb2.SetPolicyResponse(policy=to_proto_policy(stored))

        response = await self._requests.once(request, caller, router_service_pb2.SetPolicyResponse, write)
        self._guard.changed(await self._store.read(policies.read_policy))
        return response

    async def list_entries(
        self, request: router_service_pb2.ListAuditEntriesRequest, caller: Caller
    ) -> router_service_pb2.ListAuditEntriesResponse:
        check_operator(caller)
        for name in ("actor", "target"):
            check_text(getattr(request, name), name, limits.MAX_SOURCE)
        size = clamp_page_size(request.page_size, default=_PAGE, maximum=_MAX_PAGE)
        bound: dict[str, QueryValue] = {"list": "audit", "actor": request.actor, "target": request.target}
        before = str(self._tokens.decode(bound, request.page_token)[0]) if request.page_token else ""
        found = await self._store.read(
            lambda conn: policies.entries(
                conn, actor=request.actor, target=request.target, before=before, limit=size + 1
            )
        )
        token = self._tokens.encode(bound, (found[size - 1].id,)) if len(found) > size else ""
        return router_service_pb2.ListAuditEntriesResponse(
            entries=[to_proto_entry(entry) for entry in found[:size]], next_page_token=token
        )
