"""Copies of events: their payloads."""

from collections.abc import Sequence

from mobot.session.v1 import event_pb2, session_pb2
from session_service.convert.checks import from_timestamp, to_timestamp
from session_service.convert.events import detail_of
from session_service.domain.copy import Copy, Origin, copy_id
from session_service.domain.event import EventKind, NewEvent, StoredEvent

_NO_RUN = b"\x3a\x00"  # field 7, length-delimited, empty


def copy_event(event: StoredEvent) -> Copy:
    """The event as it may be appended to another session. A copy of a copy names the original.

    The wire form is not taken apart: what is said anew comes behind it, and the last word on a field counts.
    """
    message = event_pb2.Event.FromString(event.payload)
    if message.HasField("origin"):
        given = message.origin
        time = from_timestamp("origin.create_time", given.create_time)
        origin = Origin(given.session, given.session_uid, given.sequence, time)
        added = event_pb2.Event(id=copy_id(origin))
    else:
        origin = Origin(f"bots/{event.bot}/sessions/{event.session_id}", event.uid, event.sequence, event.create_time)
        added = event_pb2.Event(
            id=copy_id(origin),
            origin=session_pb2.ForkOrigin(
                session=origin.session,
                session_uid=origin.uid,
                sequence=origin.sequence,
                create_time=to_timestamp(origin.time),
            ),
        )
    payload = event.payload + added.SerializeToString() + (_NO_RUN if event.run else b"")
    kind = EventKind(event.kind)
    covers = message.summary.through_sequence if kind is EventKind.SUMMARY else None
    new = NewEvent(copy_id(origin), kind, "", payload, detail_of(kind, message))
    return Copy(origin, event.sequence, new, covers)


def amend(*, event_id: str = "", through: int = 0) -> bytes:
    """What a payload is completed with, to have another id, or to sum up what is up to another sequence."""
    added = event_pb2.Event(id=event_id)
    if through:
        added.summary.through_sequence = through
    return added.SerializeToString()


def encode_merged(event_id: str, actor: str, sources: Sequence[str]) -> bytes:
    """The payload of the event that says that sessions were merged in."""
    merged = event_pb2.SessionMerged(sources=sources)
    return event_pb2.Event(id=event_id, actor=actor, session_merged=merged).SerializeToString()
