"""The lossless archive keeps every field that a session has, also those that are added some day."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace

import pytest

from mobot.session.v1 import event_pb2, part_pb2
from session_service.domain.event import EventKind
from session_service.domain.session import (
    Fields,
    ForkOrigin,
    Head,
    Provenance,
    RunOutcome,
    RunSummary,
    Session,
    SessionState,
    SessionStatus,
    Usage,
)
from session_service.domain.transfer import Line, Parcel, Transcript
from session_service.portability.archive import ArchiveWriter, read_archive
from session_service.portability.intake import Spool, lines_of
from session_service.store.transferring import Manifest

KEYS_OF_A_STORE = frozenset({"pk", "transcript"})

FULL = Session(
    head=Head(
        pk=7,
        bot="main",
        session_id="full",
        uid="uid-2",
        transcript=8,
        state=SessionState.DELETED,
        mark=3,
        last_sequence=2,
        start_sequence=1,
        last_activity_time=1_000_001,
        status=SessionStatus.NEEDS_DECISION,
        active_runs=("r1", "r2"),
        last_run=RunSummary("r1", RunOutcome.DEAD_LETTERED, "why", 1_000_002, 1_000_003),
        message_count=4,
        usage=Usage(1, 2, 3, 4, 5, 6, 7),
        title="a title",
        preview="a preview",
        summary_sequence=2,
        summary_through=1,
    ),
    fields=Fields(
        label="Label",
        display_name="Display\N{NO-BREAK SPACE}name",
        persistent=True,
        description="two\nlines",
        group="group",
        tags=("x", "y"),
        icon="\N{ZEBRA FACE}",
        color="#ff0000",
        pinned=True,
        unread=True,
        model="p/m",
        overrides={"thinkingLevel": "high"},
        expire_time=1_000_004,
    ),
    provenance=Provenance(
        created_by="operators/root",
        created_via="cron",
        user_created=True,
        parent="bots/main/sessions/p",
        lineage=("bots/main/sessions/g", "bots/main/sessions/p"),
        spawn_depth=2,
        fork_origin=ForkOrigin("bots/main/sessions/o", "uid-o", 9),
        template="templates/t",
    ),
    version=12,
    create_time=1_000_005,
    update_time=1_000_006,
    previous_uid="uid-1",
    pin_time=1_000_007,
    mark_unread_time=1_000_008,
    last_read_time=1_000_009,
    archive_time=1_000_010,
    delete_time=1_000_011,
    purge_time=1_000_012,
    expiry_warned=1_000_013,
    archive_due=1_000_014,
)
TRANSCRIPTS = [Transcript("uid-1", 0, 1_000_000, "[1]"), Transcript("uid-2", 1, 1_000_001, None)]


def unset(value: object, path: str) -> list[str]:
    """The fields that say nothing."""
    if is_dataclass(value) and not isinstance(value, type):
        found = [unset(getattr(value, each.name), f"{path}.{each.name}") for each in fields(value)]
        return [name for names in found for name in names]
    if isinstance(value, Mapping | tuple | str):
        return [] if value else [path]
    return [] if value not in (None, 0, False) else [path]


def line(sequence: int, uid: str) -> Line:
    said = event_pb2.MessageAppended(role=event_pb2.ROLE_USER, parts=[part_pb2.Part(text="hello")])
    payload = event_pb2.Event(id=f"m{sequence}", message=said).SerializeToString()
    return Line(sequence, uid, f"m{sequence}", int(EventKind.MESSAGE), "r1", 1_000_000 + sequence, payload)


def read_back(session: Session) -> Parcel:
    writer = ArchiveWriter(Manifest(session, TRANSCRIPTS))
    lines = [line(1, "uid-1"), line(2, "uid-2")]
    spool = Spool(1 << 20)
    spool.add(writer.begin() + writer.add(lines) + writer.end())
    try:
        (parcel,) = read_archive(lines_of(spool.open(None).file))
    finally:
        spool.close()
    assert isinstance(parcel, Parcel), parcel
    assert list(parcel.lines) == lines
    assert list(parcel.transcripts) == TRANSCRIPTS
    return parcel


def without_keys(session: Session) -> Session:
    return replace(session, head=replace(session.head, **dict.fromkeys(KEYS_OF_A_STORE, 0)))


def test_no_field_of_a_session_is_lost():
    assert unset(FULL, "session") == []
    assert read_back(FULL).session == without_keys(FULL)


@pytest.mark.parametrize("state", list(SessionState))
@pytest.mark.parametrize("status", list(SessionStatus))
def test_states_are_kept(state, status):
    session = replace(FULL, head=replace(FULL.head, state=state, status=status))
    assert read_back(session).session == without_keys(session)


@pytest.mark.parametrize("outcome", list(RunOutcome))
def test_how_the_last_run_ended_is_kept(outcome):
    session = replace(FULL, head=replace(FULL.head, last_run=RunSummary("r", outcome)))
    assert read_back(session).session == without_keys(session)
