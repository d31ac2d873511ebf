"""Searches and usage: from requests, and to answers."""

from collections.abc import Sequence

from google.protobuf.duration_pb2 import Duration

from chassis.errors import field_invalid
from chassis.resource_names import parse_session
from mobot.session.v1 import event_pb2, session_service_pb2
from session_service.convert.checks import check_count, from_timestamp
from session_service.convert.derived import text_of
from session_service.convert.events import to_proto_event
from session_service.convert.queries import from_proto_filter
from session_service.convert.sessions import to_proto_usage
from session_service.domain.usage import DAY_US, Tally, day_name
from session_service.domain.words import excerpt, query_words
from session_service.store.searching import Found, Search
from session_service.store.usage import Days, UsageReport

MAX_QUERY = 4_096

_Period = session_service_pb2.GetSessionUsageRequest | session_service_pb2.GetUsageSummaryRequest


def from_proto_search(request: session_service_pb2.SearchEventsRequest) -> Search:
    if not request.query or len(request.query) > MAX_QUERY:
        raise field_invalid("query", f"must be 1 to {MAX_QUERY} characters (has {len(request.query)})")
    check_count("sessions", request.sessions, maximum=200)
    for role in request.roles:
        if role not in (event_pb2.ROLE_USER, event_pb2.ROLE_ASSISTANT, event_pb2.ROLE_SYSTEM):
            raise field_invalid("roles", f"holds {role}, which is no role", value=str(role))
    names = [parse_session(name, field="sessions").name for name in dict.fromkeys(request.sessions)]
    return Search(
        words=query_words(request.query),
        sessions=from_proto_filter(request.filter),
        names=names or None,
        start_time=from_timestamp("start_time", request.start_time) if request.HasField("start_time") else None,
        end_time=from_timestamp("end_time", request.end_time) if request.HasField("end_time") else None,
        roles=tuple(sorted(set(request.roles))),
    )


def to_proto_hit(found: Found, words: Sequence[str]) -> session_service_pb2.SearchHit:
    event = to_proto_event(found.event)
    return session_service_pb2.SearchHit(
        event=event, excerpt=excerpt(text_of(event), frozenset(words)), score=found.score
    )


def from_proto_days(request: _Period) -> Days:
    """Whole days: that of the start, and those before the end."""
    start = from_timestamp("start_time", request.start_time) // DAY_US if request.HasField("start_time") else None
    end = -(-from_timestamp("end_time", request.end_time) // DAY_US) if request.HasField("end_time") else None
    if start is not None and end is not None and end <= start:
        raise field_invalid("end_time", "must be after start_time")
    return Days(start, end)


def to_proto_session_usage(report: UsageReport) -> session_service_pb2.GetSessionUsageResponse:
    return session_service_pb2.GetSessionUsageResponse(
        total=to_proto_usage(report.total.usage),
        days=[_to_proto_bucket(day_name(day), tally) for day, tally in report.days],
        sum=_to_proto_bucket("", report.total),
    )


def to_proto_usage_summary(report: UsageReport) -> session_service_pb2.GetUsageSummaryResponse:
    return session_service_pb2.GetUsageSummaryResponse(
        total=to_proto_usage(report.total.usage),
        days=[_to_proto_bucket(day_name(day), tally) for day, tally in report.days],
        session_count=report.session_count,
        sum=_to_proto_bucket("", report.total),
    )


def _to_proto_bucket(day: str, tally: Tally) -> session_service_pb2.UsageBucket:
    run_time = Duration()
    run_time.FromMicroseconds(tally.run_time)
    return session_service_pb2.UsageBucket(
        day=day,
        usage=to_proto_usage(tally.usage),
        message_count=tally.message_count,
        run_count=tally.run_count,
        run_time=run_time,
    )
