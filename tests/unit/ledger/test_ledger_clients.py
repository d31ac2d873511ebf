"""What the ledger's own clients of mobot count as harm."""

import asyncio

import grpc
import grpc.aio
import pytest

from ledger.mobot.deciding import Deciders
from ledger.mobot.edge import EdgeClient
from ledger.mobot.names import answer_to, answered_by
from mobot.router.v1 import message_pb2, router_service_pb2

KEY = "agent:b1:s0"


def told(sequence, *, token="t", event="session.message", **more):
    return {"sequence": sequence, "event": event, "payload": {"sessionKey": KEY, **more}}


def hear(*items, **more):
    client = EdgeClient("client", "ws://nowhere/", "secret")
    client._take({"event": "mobot.event", "payload": {"token": "t", "items": items, **more}})
    return client


def test_a_client_that_hears_each_event_once_and_in_order_has_nothing_to_say():
    client = hear(told(1), told(2), told(3, event="chat", state="final", runId="r1"))
    assert client.amiss({KEY: {1, 2}}, {"r1"}) == []


@pytest.mark.parametrize(
    ("items", "word"),
    [
        ([told(1)], "lost"),
        ([told(1), told(2), told(2)], "doubled"),
        ([told(2), told(1)], "disordered"),
        ([told(1), told(2), *[told(3, event="chat", state="final", runId="r1")] * 2], "doubled"),
    ],
)
def test_a_client_says_what_is_lost_doubled_or_out_of_order(items, word):
    assert [case.split()[0] for case in hear(*items).amiss({KEY: {1, 2}}, set())] == [word]


def test_an_end_that_a_client_never_heard_is_lost():
    assert hear(told(1)).amiss({KEY: {1}}, {"r1"}) == ["lost to client: the end of r1"]


def test_a_reset_or_an_error_of_a_stream_that_was_resumed_is_unexplained():
    for problem in ("reset", "error"):
        assert hear(**{problem: {"message": "?"}}).amiss({}, set())[0].startswith(f"unexplained {problem}")


def test_an_answer_names_all_that_it_answers():
    assert list(answered_by("(0) (1)\n" + answer_to([3, 14]))) == [3, 14]
    assert not answered_by("answer me #3")


class Asking:
    """A router whose one run asks a question, and lets so many of its answers prevail."""

    def __init__(self, prevail):
        self.state = message_pb2.MESSAGE_STATE_NEEDS_DECISION
        self.prevail = prevail
        self.answers = []
        self.told = asyncio.Event()

    async def ListMessages(self, request, **_):
        asked = router_service_pb2.ListMessagesResponse()
        if self.state == message_pb2.MESSAGE_STATE_NEEDS_DECISION:
            asked.messages.add(run="r1", state=self.state).decision_request.call_id = "call"
        return asked

    async def ResolveRun(self, request, **_):
        self.answers.append(request.decision.answer)
        if len(self.answers) == 2:
            self.state = message_pb2.MESSAGE_STATE_SUCCEEDED
            self.told.set()
        if len(self.answers) > self.prevail:
            raise grpc.aio.AioRpcError(grpc.StatusCode.FAILED_PRECONDITION, grpc.aio.Metadata(), grpc.aio.Metadata())
        return router_service_pb2.ResolveRunResponse()


async def decided(tmp_path, *, prevail=1, payments=""):
    async def patiently(call):
        return await call()

    (tmp_path / "payments").write_text(payments)
    router = Asking(prevail)
    deciders = Deciders(router, (), tmp_path / "payments", patiently)
    deciders.follow("r1", 1)
    deciders.start()
    async with asyncio.timeout(30):
        await router.told.wait()
        await asyncio.gather(*deciders._deciding.values())
    await deciders.stop()
    return deciders.amiss()


async def test_of_two_answers_one_prevails(tmp_path):
    assert await decided(tmp_path, payments="1\n1\n") == []  # once before the question, once because of the answer
    assert (await decided(tmp_path, prevail=2))[0].startswith("doubled answers")
    assert (await decided(tmp_path, prevail=0))[0].startswith("lost answers")


async def test_what_was_done_once_more_than_anybody_said_is_doubled(tmp_path):
    assert (await decided(tmp_path, payments="1\n1\n1\n"))[0].startswith("doubled the payment")
