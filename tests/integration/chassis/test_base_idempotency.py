"""The ledger of request ids."""

from datetime import timedelta

import pytest
from google.protobuf import descriptor_pb2, timestamp_pb2
from notes_service.models import LEDGER

from chassis import idempotency
from chassis.errors import InvalidArgument
from chassis.idempotency import RequestKey

KEY = {"principal": "bots/main", "method": "/notes/Write", "request_id": "r1"}


@pytest.fixture
def ledger(notebook, clock):
    writer = notebook.database.writer

    class Ledger:
        async def find(self, fingerprint="f", **key):
            return await writer.run(
                lambda conn: idempotency.find(conn, LEDGER, RequestKey(**{**KEY, **key}, fingerprint=fingerprint))
            )

        async def remember(self, response, fingerprint="f", **key):
            await writer.run(
                lambda conn: idempotency.remember(
                    conn,
                    LEDGER,
                    RequestKey(**{**KEY, **key}, fingerprint=fingerprint),
                    response=response,
                    now=clock.now(),
                )
            )

        async def sweep(self):
            return await writer.run(lambda conn: idempotency.sweep(conn, LEDGER, clock.now()))

    return Ledger()


async def test_a_repeated_request_gets_the_first_answer(ledger):
    assert await ledger.find() is None
    await ledger.remember(b"answer")
    assert await ledger.find() == b"answer"


async def test_an_id_with_other_content_is_refused(ledger):
    await ledger.remember(b"answer")
    with pytest.raises(InvalidArgument) as caught:
        await ledger.find(fingerprint="other")
    assert caught.value.reason == "REQUEST_ID_REUSED"


@pytest.mark.parametrize("other", [{"principal": "bots/other"}, {"method": "/notes/Erase"}, {"request_id": "r2"}])
async def test_the_same_id_elsewhere_is_another_request(ledger, other):
    await ledger.remember(b"answer")
    assert await ledger.find(**other) is None


async def test_a_request_without_an_id_is_not_remembered(ledger):
    await ledger.remember(b"answer", request_id="")
    assert await ledger.find(request_id="") is None


async def test_an_overlong_id_is_refused(ledger):
    with pytest.raises(InvalidArgument, match="request_id"):
        await ledger.find(request_id="r" * 129)


async def test_a_request_is_forgotten_after_seven_days(ledger, clock):
    await ledger.remember(b"answer")
    clock.advance(timedelta(days=7) - timedelta(seconds=1))
    assert await ledger.sweep() == 0
    assert await ledger.find() == b"answer"
    clock.advance(timedelta(seconds=1))
    assert await ledger.sweep() == 1
    assert await ledger.find() is None


def test_a_fingerprint_tells_contents_and_types_apart():
    one, two = timestamp_pb2.Timestamp(seconds=1), timestamp_pb2.Timestamp(seconds=2)
    file = descriptor_pb2.FileDescriptorProto(name="a")
    assert idempotency.fingerprint(one) == idempotency.fingerprint(timestamp_pb2.Timestamp(seconds=1))
    assert len({idempotency.fingerprint(message) for message in (one, two, file, timestamp_pb2.Timestamp())}) == 4
