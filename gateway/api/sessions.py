"""The calls of the session service: sessions and their events, templates, groups, search, usage, copies and shares."""

from collections.abc import Sequence
from typing import Final

from gateway import scopes
from gateway.api.table import Endpoint

_SESSION = "bots/*/sessions/*"


def _row(method: str, scope: str, rpc: str, verb: str, template: str, body: str = "") -> Endpoint:
    return Endpoint(f"mobot.sessions.{method}", scope, "session", rpc, verb, f"/v1/{template}", body)


SESSIONS: Final[Sequence[Endpoint]] = (
    _row("create", scopes.WRITE, "CreateSession", "POST", "{parent=bots/*}/sessions", "*"),
    _row("get", scopes.READ, "GetSession", "GET", f"{{name={_SESSION}}}"),
    _row("batchGet", scopes.READ, "BatchGetSessions", "POST", "sessions:batchGet", "*"),
    _row("resolve", scopes.READ, "ResolveSession", "GET", "sessions:resolve"),
    _row("list", scopes.READ, "ListSessions", "GET", "sessions"),
    _row("update", scopes.WRITE, "UpdateSession", "PATCH", f"{{session.name={_SESSION}}}", "session"),
    _row("batchUpdate", scopes.WRITE, "BatchUpdateSessions", "POST", "sessions:batchUpdate", "*"),
    _row("archive", scopes.WRITE, "ArchiveSession", "POST", f"{{name={_SESSION}}}:archive", "*"),
    _row("unarchive", scopes.WRITE, "UnarchiveSession", "POST", f"{{name={_SESSION}}}:unarchive", "*"),
    _row("delete", scopes.WRITE, "DeleteSession", "DELETE", f"{{name={_SESSION}}}"),
    _row("undelete", scopes.WRITE, "UndeleteSession", "POST", f"{{name={_SESSION}}}:undelete", "*"),
    _row("purge", scopes.ADMIN, "PurgeSession", "POST", f"{{name={_SESSION}}}:purge", "*"),
    _row("events.list", scopes.READ, "ListEvents", "GET", f"{{parent={_SESSION}}}/events"),
    _row("events.get", scopes.READ, "GetEvent", "GET", f"{{session={_SESSION}}}/events/{{sequence}}"),
    _row("groups.list", scopes.READ, "ListGroups", "GET", "sessionGroups"),
    _row("groups.update", scopes.WRITE, "UpdateGroups", "POST", "sessionGroups:update", "*"),
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
