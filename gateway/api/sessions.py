"""The calls of the session service about finding, counting, copying and sharing sessions."""

from collections.abc import Sequence
from typing import Final

from gateway import scopes
from gateway.api.table import Endpoint

_SESSION = "bots/*/sessions/*"


def _row(method: str, scope: str, rpc: str, verb: str, template: str, body: str = "") -> Endpoint:
    return Endpoint(f"mobot.sessions.{method}", scope, "session", rpc, verb, f"/v1/{template}", body)


SESSIONS: Final[Sequence[Endpoint]] = (
    _row("search", scopes.READ, "SearchEvents", "POST", "sessions:search", "*"),
    _row("usage", scopes.READ, "GetSessionUsage", "GET", f"{{name={_SESSION}}}:usage"),
    _row("usage.summary", scopes.READ, "GetUsageSummary", "GET", "sessions:usage"),
    _row("fork", scopes.WRITE, "ForkSession", "POST", f"{{source={_SESSION}}}:fork", "*"),
    _row("merge", scopes.WRITE, "MergeSessions", "POST", f"{{target={_SESSION}}}:merge", "*"),
    _row("templates.create", scopes.WRITE, "CreateTemplate", "POST", "templates", "*"),
    _row("templates.get", scopes.READ, "GetTemplate", "GET", "{name=templates/*}"),
    _row("templates.list", scopes.READ, "ListTemplates", "GET", "templates"),
    _row("templates.update", scopes.WRITE, "UpdateTemplate", "PATCH", "{template.name=templates/*}", "template"),
    _row("templates.delete", scopes.WRITE, "DeleteTemplate", "DELETE", "{name=templates/*}"),
    _row("reset", scopes.ADMIN, "ResetSession", "POST", f"{{name={_SESSION}}}:reset", "*"),
    _row("shares.create", scopes.ADMIN, "CreateShareLink", "POST", f"{{parent={_SESSION}}}/shareLinks", "*"),
    _row("shares.list", scopes.READ, "ListShareLinks", "GET", f"{{parent={_SESSION}}}/shareLinks"),
    _row("shares.revoke", scopes.ADMIN, "RevokeShareLink", "POST", f"{{name={_SESSION}/shareLinks/*}}:revoke", "*"),
)
