"""One table for each request that changes something: what breaks a rule is refused by field, and changes nothing."""

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from router_world import draft

from chassis.status import from_rpc_error
from mobot.router.v1 import message_pb2, router_service_pb2
from mobot.session.v1 import part_pb2

pb = router_service_pb2
BAD_SESSIONS = ["main", "bots/main", "bots/../sessions/a", "bots/main/sessions/a..b", "bots/main/sessions/\u0430"]
BAD_BOTS = ["", "main", "bots/", "bots/..", "bots/Main", "bots/m\u0430in"]
MIB = 1024 * 1024


def sends(field, **fields):
    return pb.SendMessageRequest(message=draft(**fields)), f"message.{field}"


def parts(*given):
    return pb.SendMessageRequest(message=message_pb2.MessageDraft(session="bots/main/sessions/a", parts=given))


def text(characters):
    return part_pb2.Part(text="x" * characters)


REQUESTS = {
    "SendMessage": [
        *(sends("session", session=session) for session in BAD_SESSIONS),
        *(
            (pb.SendMessageRequest(message=message_pb2.MessageDraft(bot=b, parts=[text(1)])), "message.bot")
            for b in BAD_BOTS
        ),
        *(
            sends("reply_to", reply_to=session)
            for session in BAD_SESSIONS
            if session.startswith("bots/") and "/s" in session
        ),
        sends("idempotency_key", idempotency_key="x" * 201),
        sends("idempotency_key", idempotency_key="a\0b"),
        sends("correlation_id", correlation_id="x" * 201),
        sends("in_reply_to", in_reply_to="x" * 201),
        sends("type", type="x" * 129),
        sends("subject", subject="x" * 257),
        sends("subject", subject="a\nb"),
        sends("source", source="x" * 513),
        sends("traceparent", traceparent="x" * 129),
        sends("priority", priority=-1),
        sends("priority", priority=10),
        sends("max_attempts", max_attempts=-1),
        sends("max_attempts", max_attempts=21),
        sends("hop_count", hop_count=-1),
        sends("mode", mode=99),
        sends("metadata", metadata={"": "x"}),
        sends("metadata", metadata={"x" * 65: ""}),
        sends("metadata", metadata={f"k{number}": "" for number in range(33)}),
        sends("metadata[k]", metadata={"k": "x" * 1_025}),
        sends("not_before_time", not_before_time=Timestamp(seconds=253_402_300_000)),
        sends("expire_time", not_before_time=Timestamp(seconds=2_000), expire_time=Timestamp(seconds=1_000)),
        (parts(), "message.parts"),
        (parts(*[text(1)] * 65), "message.parts"),
        (parts(*[text(MIB)] * 5), "message.parts"),
        (parts(part_pb2.Part()), "message.parts[0].content"),
        (parts(text(1), text(MIB + 1)), "message.parts[1].text"),
        (parts(part_pb2.Part(text="a\0b")), "message.parts[0].text"),
        (parts(part_pb2.Part(file=part_pb2.FilePart())), "message.parts[0].file"),
        (
            parts(part_pb2.Part(file=part_pb2.FilePart(uri="https://a.example/x", inline_bytes=b"x"))),
            "message.parts[0].file",
        ),
    ],
    "AskMessage": [
        (pb.AskMessageRequest(message=draft(priority=10)), "message.priority"),
        (pb.AskMessageRequest(message=draft(), timeout=Duration(seconds=601)), "timeout"),
        (pb.AskMessageRequest(message=draft(), timeout=Duration(seconds=-1)), "timeout"),
    ],
    "PullDeliveries": [
        (pb.PullDeliveriesRequest(worker="workers/w", bots=["bots/main"], max_deliveries=-1), "max_deliveries"),
        (pb.PullDeliveriesRequest(worker="workers/w", bots=["bots/main"], wait=Duration(seconds=61)), "wait"),
        (pb.PullDeliveriesRequest(worker="workers/w", bots=[]), "bots"),
        (pb.PullDeliveriesRequest(worker="workers/w", bots=[f"bots/b{number}" for number in range(1_001)]), "bots"),
        (pb.PullDeliveriesRequest(worker="w", bots=["bots/main"]), "worker"),
    ],
    "CancelRun": [
        (pb.CancelRunRequest(), "target"),
        (pb.CancelRunRequest(session="bots/main"), "session"),
        (pb.CancelRunRequest(session="bots/main/sessions/a", reason="x" * 1_025), "reason"),
        (pb.CancelRunRequest(session="bots/main/sessions/a", reason="a\0b"), "reason"),
        (pb.CancelRunRequest(session="bots/main/sessions/a", request_id="x" * 129), "request_id"),
    ],
    "RedriveDeadLetters": [
        (pb.RedriveDeadLettersRequest(), "messages"),
        (pb.RedriveDeadLettersRequest(messages=["messages/1"] * 1_001), "messages"),
        (pb.RedriveDeadLettersRequest(messages=["x"]), "messages[0]"),
        (pb.RedriveDeadLettersRequest(messages=["messages/1"], request_id="x" * 129), "request_id"),
    ],
    "DiscardDeadLetters": [
        (pb.DiscardDeadLettersRequest(), "messages"),
        (pb.DiscardDeadLettersRequest(messages=["messages/1"] * 1_001), "messages"),
        (pb.DiscardDeadLettersRequest(messages=["x"]), "messages[0]"),
    ],
}


@pytest.mark.parametrize("method", REQUESTS)
async def test_a_request_that_breaks_a_rule_is_refused_by_field(stub, method):
    for request, field in REQUESTS[method]:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await getattr(stub, method)(request)
        error = from_rpc_error(caught.value)
        assert (error.code, error.metadata.get("field")) == ("INVALID_ARGUMENT", field), str(request)[:300]
    assert len((await stub.ListMessages(pb.ListMessagesRequest())).messages) == 0
