"""sessions.usage: what sessions consumed, for the clients' usage page. Days are those of UTC."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from gateway import errors, params, scopes
from gateway.dispatch import Call, Method
from gateway.keys import agent_of, key_of
from gateway.services import Services
from gateway.shapes import millis, split_model
from mobot.session.v1 import session_pb2
from mobot.session.v1 import session_service_pb2 as session_api

_DEFAULT_DAYS = 30
_DEFAULT_SESSIONS = 50
_MAX_SESSIONS = 200
_RULES: params.Rules = {
    "key": params.OPTIONAL_KEY,
    "agentId": params.AGENT,
    "agentScope": params.Text(choices=("all",)),
    "startDate": params.Text(min_length=10, max_length=10),
    "endDate": params.Text(min_length=10, max_length=10),
    "limit": params.Whole(minimum=1),
}
_Bucket = session_api.UsageBucket


class UsageMethods:
    """Handlers that count."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._sessions = services.sessions

    def table(self) -> tuple[Method, ...]:
        return (Method("sessions.usage", scopes.READ, self.usage, _RULES),)

    async def usage(self, call: Call) -> object:
        """One session's, or those of an agent's sessions, the last active ones first, with the sums over all."""
        given = call.params
        first, last = self._days(given)
        start, end = _timestamp(first), _timestamp(last + timedelta(days=1))
        sessions = await self._asked_for(given)
        reports = await asyncio.gather(
            *(
                self._sessions.GetSessionUsage(
                    session_api.GetSessionUsageRequest(name=session.name, start_time=start, end_time=end)
                )
                for session in sessions
            )
        )
        days: Sequence[_Bucket]
        if given.get("key"):
            days = reports[0].days if reports else ()
            sums = reports[0].sum if reports else _Bucket()
        else:
            bot = self._services.keys.bot(given["agentId"]) if given.get("agentId") else ""
            summary = await self._sessions.GetUsageSummary(
                session_api.GetUsageSummaryRequest(bot=bot, start_time=start, end_time=end)
            )
            days, sums = summary.days, summary.sum
        return {
            "updatedAt": self._services.now_ms(),
            "startDate": first.isoformat(),
            "endDate": last.isoformat(),
            "sessions": [_row(session, report.sum) for session, report in zip(sessions, reports, strict=True)],
            "totals": _totals(sums),
            "aggregates": {
                "messages": _messages(sums),
                "tools": _tools(sums),
                "byModel": [],
                "byProvider": [],
                "byAgent": _by_agent(sessions, [report.sum for report in reports]),
                "byChannel": [],
                "daily": [_day(bucket) for bucket in days],
            },
        }

    def _days(self, given: Mapping[str, Any]) -> tuple[date, date]:
        today = datetime.fromtimestamp(self._services.now_ms() / 1000, UTC).date()
        last = _date("endDate", given.get("endDate")) or today
        first = _date("startDate", given.get("startDate")) or last - timedelta(days=_DEFAULT_DAYS - 1)
        if first > last:
            raise errors.invalid_request("invalid sessions.usage params: startDate is after endDate")
        return first, last

    async def _asked_for(self, given: Mapping[str, Any]) -> list[session_pb2.Session]:
        if given.get("key"):
            name = self._services.keys.session(given["key"], given.get("agentId"))
            found = await self._sessions.BatchGetSessions(session_api.BatchGetSessionsRequest(names=[name.name]))
            return list(found.sessions)
        wanted = session_api.SessionFilter(
            states=(session_pb2.SESSION_STATE_ACTIVE, session_pb2.SESSION_STATE_ARCHIVED),
            bots=[self._services.keys.bot(given["agentId"])] if given.get("agentId") else [],
        )
        page = await self._sessions.ListSessions(
            session_api.ListSessionsRequest(
                filter=wanted,
                order=session_api.SESSION_ORDER_ACTIVITY,
                page_size=min(given.get("limit") or _DEFAULT_SESSIONS, _MAX_SESSIONS),
            )
        )
        return list(page.sessions)


def _row(session: session_pb2.Session, used: _Bucket) -> dict[str, object]:
    row: dict[str, object] = {
        "key": key_of(session.name),
        "sessionId": session.uid,
        "agentId": agent_of(session.name),
        "updatedAt": millis(session.last_activity_time),
        "usage": {
            **_totals(used),
            "durationMs": used.run_time.seconds * 1000 + used.run_time.nanos // 1_000_000,
            "messageCounts": _messages(used),
            "toolUsage": _tools(used),
        },
    }
    if session.label or session.display_name:
        row["label"] = session.label or session.display_name
    if session.model:
        row["modelProvider"], row["model"] = split_model(session.model)
    return row


def _totals(used: _Bucket) -> dict[str, object]:
    usage = used.usage
    cost = usage.cost_micros / 1_000_000
    return {
        "input": usage.input_tokens,
        "output": usage.output_tokens,
        "cacheRead": usage.cache_read_tokens,
        "cacheWrite": usage.cache_write_tokens,
        "totalTokens": _tokens(used),
        "totalCost": cost,
        # A run reports its cost as one sum.
        "inputCost": 0,
        "outputCost": 0,
        "cacheReadCost": 0,
        "cacheWriteCost": 0,
        "missingCostEntries": 0,
    }


def _tokens(used: _Bucket) -> int:
    usage = used.usage
    return usage.input_tokens + usage.output_tokens + usage.cache_read_tokens + usage.cache_write_tokens


def _messages(used: _Bucket) -> dict[str, int]:
    """Each run answers one message; what else was said counts in the total alone."""
    calls = used.usage.tool_call_count
    asked = min(used.run_count, used.message_count)
    return {
        "total": used.message_count,
        "user": asked,
        "assistant": used.message_count - asked,
        "toolCalls": calls,
        "toolResults": calls,
        "errors": 0,
    }


def _tools(used: _Bucket) -> dict[str, object]:
    return {"totalCalls": used.usage.tool_call_count, "uniqueTools": 0, "tools": []}


def _day(used: _Bucket) -> dict[str, object]:
    return {
        "date": used.day,
        "tokens": _tokens(used),
        "cost": used.usage.cost_micros / 1_000_000,
        "messages": used.message_count,
        "toolCalls": used.usage.tool_call_count,
        "errors": 0,
    }


def _by_agent(sessions: Iterable[session_pb2.Session], buckets: Iterable[_Bucket]) -> list[dict[str, object]]:
    sums: dict[str, _Bucket] = {}
    for session, bucket in zip(sessions, buckets, strict=True):
        into = sums.setdefault(agent_of(session.name), _Bucket())
        for field in ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "cost_micros"):
            setattr(into.usage, field, getattr(into.usage, field) + getattr(bucket.usage, field))
    return [{"agentId": agent, "totals": _totals(bucket)} for agent, bucket in sums.items()]


def _date(field: str, given: str | None) -> date | None:
    try:
        return date.fromisoformat(given) if given else None
    except ValueError:
        raise errors.invalid_request(f"invalid sessions.usage params: at /{field}: must be YYYY-MM-DD") from None


def _timestamp(day: date) -> Timestamp:
    return Timestamp(seconds=int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()))
