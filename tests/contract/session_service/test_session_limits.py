"""One table for each request that changes something: what breaks a rule is refused by field, and changes nothing."""

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from session_world import append, create, message, name, pb, refusal

from mobot.session.v1 import session_pb2

BAD_NAMES = [
    "",
    "bots/main",
    "bots/main/sessions/",
    "bots/main/sessions/..",
    "bots/main/sessions/a..b",
    "bots/main/sessions/a/b",
    "bots/main/sessions/\u0430",
    "bots/main/sessions/a\n",
    "bots/main/sessions/" + "x" * 257,
    "bots/Main/sessions/a",
    "agent:main:a",
]
A = name("a")
LONG_ID = "x" * 129


def session(**fields):
    return session_pb2.Session(name=A, **fields)


def named(kind, **fields):
    return [(kind(name=each, **fields), "name") for each in BAD_NAMES]


def repeated(kind, **fields):
    return [(kind(request_id=LONG_ID, **fields), "request_id")]


def updates(**fields):
    return pb.UpdateSessionRequest(session=session(**fields))


REQUESTS = {
    "CreateSession": [
        *((pb.CreateSessionRequest(parent=parent, session_id="b"), "parent") for parent in ("", "main", "bots/..")),
        *repeated(pb.CreateSessionRequest, parent="bots/main", session_id="b"),
        (pb.CreateSessionRequest(parent="bots/main", session_id="b", conflict_policy=9), "conflict_policy"),
        (
            pb.CreateSessionRequest(parent="bots/main", session_id="b", session=session(parent="bots/main")),
            "session.parent",
        ),
        (
            pb.CreateSessionRequest(parent="bots/main", session_id="b", session=session(model="x" * 257)),
            "session.model",
        ),
    ],
    "UpdateSession": [
        *((pb.UpdateSessionRequest(session=session_pb2.Session(name=each)), "session.name") for each in BAD_NAMES),
        *repeated(pb.UpdateSessionRequest, session=session(color="red")),
        (updates(label="x" * 513), "session.label"),
        (updates(display_name="x" * 501), "session.display_name"),
        (updates(description="x" * 4_097), "session.description"),
        (updates(description="a\0b"), "session.description"),
        (updates(tags=[""]), "session.tags"),
        (updates(tags=[f"t{number}" for number in range(33)]), "session.tags"),
        (updates(group="x" * 129), "session.group"),
        (updates(group="a\nb"), "session.group"),
        (updates(group="a\u202eb"), "session.group"),
        (updates(display_name="a\x7fb"), "session.display_name"),
        (updates(color="x" * 33), "session.color"),
        (updates(color="#12"), "session.color"),
        (updates(color="#12345g"), "session.color"),
        (updates(expire_time=Timestamp(seconds=-62_135_596_801)), "session.expire_time"),
        (updates(model="x" * 257), "session.model"),
        (updates(overrides={str(number): "" for number in range(65)}), "session.overrides"),
        (pb.UpdateSessionRequest(session=session(), update_mask=FieldMask(paths=["nonsense"])), "update_mask"),
    ],
    "ResetSession": [
        *named(pb.ResetSessionRequest),
        *repeated(pb.ResetSessionRequest, name=A),
        (pb.ResetSessionRequest(name=A, reason="x" * 257), "reason"),
        (pb.ResetSessionRequest(name=A, reason="a\nb"), "reason"),
    ],
    "DeleteSession": [*named(pb.DeleteSessionRequest), *repeated(pb.DeleteSessionRequest, name=A)],
    "UndeleteSession": [*named(pb.UndeleteSessionRequest), *repeated(pb.UndeleteSessionRequest, name=A)],
    "ArchiveSession": [
        *named(pb.ArchiveSessionRequest),
        *repeated(pb.ArchiveSessionRequest, name=A),
        (pb.ArchiveSessionRequest(name=A, reason="x" * 257), "reason"),
    ],
    "UnarchiveSession": [*named(pb.UnarchiveSessionRequest), *repeated(pb.UnarchiveSessionRequest, name=A)],
    "PurgeSession": [
        *named(pb.PurgeSessionRequest, expected_uid="x"),
        *repeated(pb.PurgeSessionRequest, name=A, expected_uid="x"),
        (pb.PurgeSessionRequest(name=A), "expected_uid"),
    ],
    "BatchUpdateSessions": [
        (pb.BatchUpdateSessionsRequest(), "requests"),
        (pb.BatchUpdateSessionsRequest(requests=[updates(color="red")] * 101), "requests"),
        (
            pb.BatchUpdateSessionsRequest(requests=[pb.UpdateSessionRequest(session=session(), request_id="r")]),
            "requests.request_id",
        ),
    ],
    "AppendEvents": [
        *((pb.AppendEventsRequest(append=append(each, message("m1"))), "append.session") for each in BAD_NAMES),
        (pb.AppendEventsRequest(append=append(A, *(message(f"m{n}") for n in range(1_001)))), "append.events"),
        (pb.AppendEventsRequest(append=append(A, message("m1"), epoch=-1)), "append.epoch"),
    ],
    "BatchAppendEvents": [
        (pb.BatchAppendEventsRequest(), "appends"),
        (pb.BatchAppendEventsRequest(appends=[append(A, message("m1"))] * 2_001), "appends"),
    ],
    "UpdateGroups": [
        *repeated(pb.UpdateGroupsRequest, groups=["work"]),
        (pb.UpdateGroupsRequest(groups=[""]), "groups"),
        (pb.UpdateGroupsRequest(groups=["x" * 129]), "groups"),
        (pb.UpdateGroupsRequest(renames={"work": "a\0b"}), "groups"),
        (pb.UpdateGroupsRequest(removals=[f"g{number}" for number in range(5_001)]), "groups"),
    ],
}


@pytest.mark.parametrize("method", REQUESTS)
async def test_a_request_that_breaks_a_rule_is_refused_by_field(stub, method):
    before = await create(stub, "a")
    for request, field in REQUESTS[method]:
        error = await refusal(getattr(stub, method)(request))
        assert (error.code, error.metadata.get("field")) == ("INVALID_ARGUMENT", field), request
        assert error.violations[0].field == field, request
    assert (await stub.GetSession(pb.GetSessionRequest(name=A))).session == before
    assert len((await stub.ListSessions(pb.ListSessionsRequest())).sessions) == 1
