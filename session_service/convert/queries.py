"""What lists, histories and watches ask for."""

from collections.abc import Sequence
from typing import NamedTuple

from google.protobuf.message import Message

from chassis.errors import field_invalid
from chassis.resource_names import check_session_id, parse_bot, parse_session, parse_session_key
from mobot.session.v1 import session_service_pb2
from session_service.convert.checks import check_count, check_not_negative, check_text, from_timestamp
from session_service.convert.events import from_proto_kinds
from session_service.domain.session import SessionState
from session_service.store.filtering import SessionFilter
from session_service.store.listing import SessionOrder
from session_service.store.log import EventFilter

MAX_OFFSET = 1_000_000
MAX_WATCHED = 10_000

_STATES = {int(state): state for state in SessionState}
_ORDERS = {
    session_service_pb2.SESSION_ORDER_UNSPECIFIED: SessionOrder.PINNED,
    session_service_pb2.SESSION_ORDER_ACTIVITY: SessionOrder.ACTIVITY,
    session_service_pb2.SESSION_ORDER_CREATED: SessionOrder.CREATED,
    session_service_pb2.SESSION_ORDER_NAME: SessionOrder.NAME,
}


class Reference(NamedTuple):
    """What ResolveSession looks for. `kind` is the name of the oneof's field."""

    bots: Sequence[str] | None
    kind: str
    text: str


class WatchOrder(NamedTuple):
    """What WatchEvents asks for. `names` is empty for all sessions; `after_sequence` is None to begin now."""

    names: Sequence[str]
    bots: Sequence[str] | None
    kinds: Sequence[int]
    resume_token: str
    after_sequence: int | None
    checkpoint_s: float


def from_proto_filter(given: session_service_pb2.SessionFilter) -> SessionFilter:
    for state in given.states:
        if state not in _STATES:
            raise field_invalid("filter.states", f"holds {state}, which is no state", value=str(state))
    for session_id in given.exclude_ids:
        check_session_id(session_id, field="filter.exclude_ids")
    return SessionFilter(
        bots=from_proto_bots(given.bots),
        states=[_STATES[state] for state in dict.fromkeys(given.states)] or [SessionState.ACTIVE],
        group=given.group,
        tags=list(given.tags),
        persistent=given.persistent if given.HasField("persistent") else None,
        running=given.running if given.HasField("running") else None,
        parent=parse_session(given.parent, field="filter.parent").name if given.parent else "",
        text=check_text("filter.text", given.text, 256),
        label=given.label,
        active_since=from_timestamp("filter.active_since", given.active_since)
        if given.HasField("active_since")
        else None,
        exclude_ids=list(given.exclude_ids),
    )


def from_proto_bots(bots: Sequence[str]) -> list[str] | None:
    return [parse_bot(bot, field="filter.bots") for bot in bots] or None


def from_proto_order(order: int) -> SessionOrder:
    known = _ORDERS.get(session_service_pb2.SessionOrder.ValueType(order))
    if known is None:
        raise field_invalid("order", f"is {order}, which is no order", value=str(order))
    return known


def from_proto_offset(offset: int) -> int:
    if not 0 <= offset <= MAX_OFFSET:
        raise field_invalid("offset", f"must be from 0 to {MAX_OFFSET} (was {offset})")
    return offset


def from_proto_event_filter(given: session_service_pb2.EventFilter) -> EventFilter:
    return EventFilter(
        kinds=from_proto_kinds(given.kinds, "filter.kinds"),
        run=given.run,
        uid=given.session_uid or None,
        after_sequence=check_not_negative("filter.after_sequence", given.after_sequence),
        before_sequence=check_not_negative("filter.before_sequence", given.before_sequence),
        start_time=from_timestamp("filter.start_time", given.start_time) if given.HasField("start_time") else None,
        end_time=from_timestamp("filter.end_time", given.end_time) if given.HasField("end_time") else None,
    )


def from_proto_reference(request: session_service_pb2.ResolveSessionRequest) -> Reference:
    """A client key becomes the resource name it stands for."""
    kind = request.WhichOneof("reference")
    if kind is None:
        raise field_invalid("reference", "must be set")
    bots = [parse_bot(request.bot, field="bot")] if request.bot else None
    text: str = getattr(request, kind)
    if not text or len(text) > 512:
        raise field_invalid(kind, "must be 1 to 512 characters")
    if kind == "short_id" and len(text) < 6:
        raise field_invalid("short_id", "must be at least 6 characters")
    if kind in ("key", "any"):
        if text.lower().startswith("agent:"):
            return Reference(bots, "key", parse_session_key(text, field=kind).name)
        if text.startswith("bots/"):
            return Reference(bots, "key", parse_session(text, field=kind).name)
        if kind == "key":
            check_session_id(text, field="key")
    return Reference(bots, kind, text)


def from_proto_watch(request: session_service_pb2.WatchEventsRequest) -> WatchOrder:
    check_count("sessions", request.sessions, maximum=MAX_WATCHED)
    names = [parse_session(name, field="sessions").name for name in dict.fromkeys(request.sessions)]
    for field, _ in request.filter.ListFields():
        if field.name != "bots":
            raise field_invalid(f"filter.{field.name}", "cannot narrow a watch; only bots can")
    after = request.after_sequence
    if after < -1 or (after > 0 and (len(names) != 1 or request.resume_token)):
        raise field_invalid("after_sequence", "must be -1 or more, and set only for one session without a resume_token")
    interval = request.checkpoint_interval
    seconds = interval.seconds + interval.nanos / 1e9
    if seconds and seconds < 1:
        raise field_invalid("checkpoint_interval", "must be at least 1 s")
    return WatchOrder(
        names=names,
        bots=from_proto_bots(request.filter.bots),
        kinds=from_proto_kinds(request.kinds, "kinds"),
        resume_token=request.resume_token,
        after_sequence=after if len(names) == 1 and after >= 0 else None,
        checkpoint_s=seconds or 15.0,
    )


def page_query(request: Message, *, bot: str | None, paging: Sequence[str]) -> dict[str, str]:
    """What a page token is bound to: everything that the request asks for but the fields `paging`, and for whom."""
    bare = type(request)()
    bare.CopyFrom(request)
    for field in paging:
        bare.ClearField(field)
    return {"request": bare.SerializeToString(deterministic=True).hex(), "bot": bot or ""}
