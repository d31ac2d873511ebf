"""Share links, and sessions as the reader of a link sees them: what was said, and nothing of what is behind."""

import re

from chassis.errors import field_invalid
from chassis.resource_names import SessionName, parse_session
from mobot.session.v1 import event_pb2, session_pb2, session_service_pb2
from session_service.convert.checks import to_timestamp
from session_service.convert.events import to_proto_event
from session_service.domain.event import StoredEvent
from session_service.domain.session import Session
from session_service.domain.share import ShareLink
from session_service.store.sharing import SharedPage

MAX_TOKEN = 128

_NAME = re.compile(r"(bots/[^/]+/sessions/[^/]+)/shareLinks/([0-9a-zA-Z-]{1,64})")


def from_proto_link_name(name: str) -> tuple[SessionName, str]:
    """The session and the link's id."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise field_invalid("name", "must look like bots/{bot}/sessions/{session}/shareLinks/{link}")
    return parse_session(match[1]), match[2]


def to_proto_link(link: ShareLink, token: str = "") -> session_pb2.ShareLink:
    return session_pb2.ShareLink(
        name=link.name,
        token=token,
        through_sequence=link.through_sequence,
        created_by=link.created_by,
        create_time=to_timestamp(link.create_time),
        expire_time=to_timestamp(link.expire_time),
        revoke_time=to_timestamp(link.revoke_time),
        start_sequence=link.start_sequence,
    )


def to_proto_shared(page: SharedPage, next_page_token: str) -> session_service_pb2.GetSharedSessionResponse:
    return session_service_pb2.GetSharedSessionResponse(
        session=_to_proto_shared_session(page.session),
        events=[_to_proto_shared_event(event) for event in page.events],
        next_page_token=next_page_token,
        expire_time=to_timestamp(page.link.expire_time),
    )


def _to_proto_shared_session(session: Session) -> session_pb2.Session:
    fields = session.fields
    return session_pb2.Session(
        label=fields.label,
        display_name=fields.display_name,
        description=fields.description,
        create_time=to_timestamp(session.create_time),
        last_activity_time=to_timestamp(session.head.last_activity_time),
        message_count=session.head.message_count,
    )


def _to_proto_shared_event(event: StoredEvent) -> event_pb2.Event:
    full = to_proto_event(event)
    shared = event_pb2.Event(sequence=full.sequence, create_time=full.create_time)
    match full.WhichOneof("payload"):
        case "message":
            said = full.message
            shared.message.CopyFrom(
                event_pb2.MessageAppended(
                    role=said.role,
                    parts=said.parts,
                    model=said.model,
                    partial=said.partial,
                    inter_session=said.inter_session,
                )
            )
        case "tool_called":
            shared.tool_called.CopyFrom(full.tool_called)
        case "tool_returned":
            shared.tool_returned.CopyFrom(full.tool_returned)
        case _:
            pass
    return shared
