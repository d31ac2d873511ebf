"""The calls of the memory service."""

from collections.abc import Sequence
from typing import Final

from gateway import scopes
from gateway.api.table import Endpoint

_BOT = "{parent=bots/*}"
_READ, _WRITE, _ADMIN = scopes.READ, scopes.WRITE, scopes.ADMIN


def _row(method: str, scope: str, rpc: str, verb: str, template: str, body: str = "") -> Endpoint:
    return Endpoint(f"mobot.memory.{method}", scope, "memory", rpc, verb, f"/v1/{template}", body)


MEMORY: Final[Sequence[Endpoint]] = (
    _row("put", _WRITE, "PutMemory", "POST", f"{_BOT}/memories", "*"),
    _row("batchPut", _WRITE, "BatchPutMemories", "POST", f"{_BOT}/memories:batchPut", "*"),
    _row("list", _READ, "ListMemories", "GET", f"{_BOT}/memories"),
    _row("search", _READ, "SearchMemories", "POST", f"{_BOT}/memories:search", "*"),
    _row("get", _READ, "GetMemory", "GET", "{name=bots/*/memories/*}"),
    _row("update", _WRITE, "UpdateMemory", "PATCH", "{memory.name=bots/*/memories/*}", "memory"),
    _row("forget", _WRITE, "DeleteMemory", "DELETE", "{name=bots/*/memories/*}"),
    _row("undelete", _WRITE, "UndeleteMemory", "POST", "{name=bots/*/memories/*}:undelete", "*"),
    _row("versions", _READ, "ListMemoryVersions", "GET", "{parent=bots/*/memories/*}/versions"),
    _row("restore", _WRITE, "RestoreMemoryVersion", "POST", "{name=bots/*/memories/*/versions/*}:restore", "*"),
    _row("export", _READ, "ExportMemories", "GET", f"{_BOT}/memories:export"),
    _row("import", _ADMIN, "ImportMemories", "POST", f"{_BOT}/memories:import"),
    _row("blocks.list", _READ, "ListBlocks", "GET", f"{_BOT}/blocks"),
    _row("blocks.get", _READ, "GetBlock", "GET", "{name=bots/*/blocks/*}"),
    _row("blocks.put", _WRITE, "PutBlock", "PATCH", "{block.name=bots/*/blocks/*}", "block"),
    _row("blocks.delete", _WRITE, "DeleteBlock", "DELETE", "{name=bots/*/blocks/*}"),
    _row("blocks.versions", _READ, "ListBlockVersions", "GET", "{parent=bots/*/blocks/*}/versions"),
    _row("grants.create", _ADMIN, "CreateGrant", "POST", f"{_BOT}/grants", "*"),
    _row("grants.list", _READ, "ListGrants", "GET", f"{_BOT}/grants"),
    _row("grants.revoke", _ADMIN, "RevokeGrant", "POST", "{name=bots/*/grants/*}:revoke", "*"),
    _row("accesses.list", _READ, "ListAccesses", "GET", f"{_BOT}/accesses"),
    _row("erase", _ADMIN, "EraseNamespace", "POST", "{name=bots/*}/memory:erase", "*"),
    _row("reindex", _ADMIN, "ReindexNamespace", "POST", "{name=bots/*}/memory:reindex", "*"),
    _row("stats", _READ, "GetMemoryStats", "GET", "{name=bots/*}/memory:stats"),
    _row("operations.list", _READ, "ListOperations", "GET", f"{_BOT}/operations"),
    _row("operations.get", _READ, "GetOperation", "GET", "{name=bots/*/operations/*}"),
    _row("operations.cancel", _ADMIN, "CancelOperation", "POST", "{name=bots/*/operations/*}:cancel", "*"),
)
