"""Mail waits, is sent in order, and every sender hears what became of it."""

import asyncio

import grpc
import grpc.aio
import pytest
from prometheus_client import CollectorRegistry

from chassis import errors
from gateway.mail import Mail
from gateway.metrics import GatewayMetrics
from mobot.router.v1 import message_pb2, router_service_pb2


class Stream:
    """One call of Router.Send whose answers the test writes."""

    def __init__(self):
        self.requests = []
        self.answers = asyncio.Queue()

    async def write(self, request):
        self.requests.append(request)

    def cancel(self):
        return True

    async def __aiter__(self):
        while True:
            answer = await self.answers.get()
            if isinstance(answer, Exception):
                raise answer
            yield answer

    def sent(self):
        return [draft.idempotency_key for request in self.requests for draft in request.messages]


class Stub:
    def __init__(self):
        self.streams = []

    def Send(self):
        self.streams.append(Stream())
        return self.streams[-1]


def draft(key):
    return message_pb2.MessageDraft(idempotency_key=key)


def receipts(first, *runs, credit=0):
    outcomes = [
        router_service_pb2.SendOutcome(number=number, receipt=message_pb2.Receipt(run=run))
        for number, run in enumerate(runs, start=first)
    ]
    return router_service_pb2.SendResponse(outcomes=outcomes, credit=credit)


def broken(code=grpc.StatusCode.UNAVAILABLE):
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details="gone")


async def until(condition):
    async with asyncio.timeout(40):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0)


@pytest.fixture
async def office():
    stub = Stub()
    mail = Mail(stub, metrics=GatewayMetrics(CollectorRegistry()), max_waiting=5, timeout_s=0.3)
    running = asyncio.create_task(mail.run())
    yield mail, stub
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_nothing_is_sent_before_there_is_credit_and_no_more_than_it(office):
    mail, stub = office
    sends = [asyncio.create_task(mail.send(draft(key))) for key in "abc"]
    await until(lambda: stub.streams and stub.streams[0].requests)
    stream = stub.streams[0]
    assert stream.sent() == []

    stream.answers.put_nowait(router_service_pb2.SendResponse(credit=2))
    await until(lambda: len(stream.sent()) == 2)
    stream.answers.put_nowait(receipts(1, "a", "b", credit=2))
    await until(lambda: len(stream.sent()) == 3)
    stream.answers.put_nowait(receipts(3, "c"))

    assert [(await send).run for send in sends] == ["a", "b", "c"]
    assert stream.sent() == ["a", "b", "c"]


async def test_what_got_no_answer_is_sent_again_before_what_is_new(office):
    mail, stub = office
    sends = [asyncio.create_task(mail.send(draft(key))) for key in "abc"]
    await until(lambda: stub.streams)
    stub.streams[0].answers.put_nowait(router_service_pb2.SendResponse(credit=9))
    await until(lambda: len(stub.streams[0].sent()) == 3)
    stub.streams[0].answers.put_nowait(receipts(1, "a"))
    stub.streams[0].answers.put_nowait(broken())
    await until(lambda: sends[0].done())
    sends.append(asyncio.create_task(mail.send(draft("d"))))
    await until(lambda: len(stub.streams) == 2)
    second = stub.streams[1]
    second.answers.put_nowait(router_service_pb2.SendResponse(credit=9))
    await until(lambda: len(second.sent()) == 3)
    second.answers.put_nowait(receipts(1, "b", "c", "d"))

    assert [(await send).run for send in sends] == ["a", "b", "c", "d"]
    assert second.sent() == ["b", "c", "d"]


async def test_a_refusal_is_an_error_of_its_own_class(office):
    mail, stub = office
    send = asyncio.create_task(mail.send(draft("a")))
    await until(lambda: stub.streams)
    refusal = message_pb2.Refusal(
        code=grpc.StatusCode.RESOURCE_EXHAUSTED.value[0],
        reason="MAILBOX_FULL",
        message="full",
        metadata={"queued": "9"},
    )
    refusal.retry_delay.FromMilliseconds(1500)
    stub.streams[0].answers.put_nowait(router_service_pb2.SendResponse(credit=1))
    await until(lambda: stub.streams[0].sent())
    outcome = router_service_pb2.SendOutcome(number=1, refusal=refusal)
    stub.streams[0].answers.put_nowait(router_service_pb2.SendResponse(outcomes=[outcome]))

    with pytest.raises(errors.ResourceExhausted) as refused:
        await send
    assert (refused.value.reason, refused.value.metadata, refused.value.retry_after_s) == (
        "MAILBOX_FULL", {"queued": "9"}, 1.5,
    )  # fmt: skip


async def test_too_much_waiting_mail_is_refused_at_once(office):
    mail, _ = office
    sends = [asyncio.create_task(mail.send(draft(key))) for key in "abcde"]
    await asyncio.sleep(0)

    with pytest.raises(errors.ResourceExhausted) as refused:
        await mail.send(draft("f"))
    assert (refused.value.reason, refused.value.retry_after_s) == ("QUEUE_FULL", 1.0)
    for send in sends:
        send.cancel()


async def test_an_answer_that_does_not_come_is_said_to_be_unknown(office):
    mail, _ = office

    with pytest.raises(errors.Unavailable) as refused:
        await mail.send(draft("a"))
    assert "same idempotencyKey" in refused.value.message


async def test_what_cannot_get_better_is_told_to_all_who_wait(office):
    mail, stub = office
    sends = [asyncio.create_task(mail.send(draft(key))) for key in "ab"]
    await until(lambda: stub.streams)
    stub.streams[0].answers.put_nowait(broken(grpc.StatusCode.UNAUTHENTICATED))

    for send in sends:
        with pytest.raises(errors.Unauthenticated):
            await send
