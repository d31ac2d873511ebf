"""The calls of the router: mail, runs, topics, schedules, policy."""

from collections.abc import Sequence
from typing import Final

from gateway import scopes
from gateway.api.table import Endpoint

_READ, _WRITE, _ADMIN = scopes.READ, scopes.WRITE, scopes.ADMIN


def _row(method: str, scope: str, rpc: str, verb: str, template: str, body: str = "") -> Endpoint:
    return Endpoint(f"mobot.{method}", scope, "router", rpc, verb, f"/v1/{template}", body)


MAIL: Final[Sequence[Endpoint]] = (
    _row("mail.send", _WRITE, "SendMessage", "POST", "messages", "*"),
    _row("mail.ask", _WRITE, "AskMessage", "POST", "messages:ask", "*"),
    _row("mail.list", _READ, "ListMessages", "GET", "messages"),
    _row("mail.get", _READ, "GetMessage", "GET", "{name=messages/*}"),
    _row("runs.wait", _READ, "WaitRun", "GET", "runs/{run}:wait"),
    _row("runs.cancel", _WRITE, "CancelRun", "POST", "runs/{run}:cancel", "*"),
    _row("runs.resolve", _ADMIN, "ResolveRun", "POST", "runs/{run}:resolve", "*"),
    _row("spawn", _WRITE, "SpawnSession", "POST", "sessions:spawn", "*"),
    _row("deadLetters.list", _READ, "ListDeadLetters", "GET", "deadLetters"),
    _row("deadLetters.redrive", _ADMIN, "RedriveDeadLetters", "POST", "deadLetters:redrive", "*"),
    _row("deadLetters.discard", _ADMIN, "DiscardDeadLetters", "POST", "deadLetters:discard", "*"),
    _row("mailboxes.stats", _READ, "GetMailboxStats", "GET", "mailboxes"),
    _row("topics.create", _WRITE, "CreateTopic", "POST", "topics", "*"),
    _row("topics.list", _READ, "ListTopics", "GET", "topics"),
    _row("topics.delete", _ADMIN, "DeleteTopic", "DELETE", "{name=topics/*}"),
    _row("topics.subscribe", _WRITE, "SubscribeTopic", "POST", "{topic=topics/*}:subscribe", "*"),
    _row("topics.unsubscribe", _WRITE, "UnsubscribeTopic", "POST", "{topic=topics/*}:unsubscribe", "*"),
    _row("topics.publish", _WRITE, "PublishTopic", "POST", "{message.topic=topics/*}:publish", "message"),
    _row("schedules.create", _ADMIN, "CreateSchedule", "POST", "schedules", "*"),
    _row("schedules.list", _READ, "ListSchedules", "GET", "schedules"),
    _row("schedules.update", _ADMIN, "UpdateSchedule", "PATCH", "{schedule.name=schedules/*}", "schedule"),
    _row("schedules.delete", _ADMIN, "DeleteSchedule", "DELETE", "{name=schedules/*}"),
    _row("schedules.run", _WRITE, "RunSchedule", "POST", "{name=schedules/*}:run", "*"),
    _row("policy.get", _READ, "GetPolicy", "GET", "policy"),
    _row("policy.set", _ADMIN, "SetPolicy", "PUT", "policy", "policy"),
    _row("audit.list", _ADMIN, "ListAuditEntries", "GET", "audit"),
)
