"""The synchronous client, against the fake channel of grpcio-testing."""

from concurrent.futures import ThreadPoolExecutor

import grpc
import grpc_testing
import pytest

from bot_sdk.client import MobotClient
from bot_sdk.errors import NoReply
from chassis import errors, status
from mobot.memory.v1 import memory_pb2, memory_service_pb2
from mobot.registry.v1 import bot_pb2, registry_service_pb2
from mobot.router.v1 import message_pb2, router_service_pb2
from mobot.session.v1 import event_pb2, part_pb2, session_service_pb2

FILES = {
    "registry": registry_service_pb2,
    "session": session_service_pb2,
    "memory": memory_service_pb2,
    "router": router_service_pb2,
}


class Served:
    """A client in one thread, and the calls it makes, answered by the test in another."""

    def __init__(self) -> None:
        descriptors = {name: next(iter(file.DESCRIPTOR.services_by_name.values())) for name, file in FILES.items()}
        self.descriptors = descriptors
        self.channels = {
            name: grpc_testing.channel([descriptor], grpc_testing.strict_real_time())
            for name, descriptor in descriptors.items()
        }
        self.client = MobotClient(self.channels, token="secret")
        self.thread = ThreadPoolExecutor(max_workers=1)

    def start(self, function, *args, **kwargs):
        return self.thread.submit(function, *args, **kwargs)

    def take(self, service: str, method: str):
        """The next call of the method: its metadata, its request, and what answers it."""
        descriptor = self.descriptors[service].methods_by_name[method]
        metadata, request, rpc = self.channels[service].take_unary_unary(descriptor)
        rpc.send_initial_metadata(())
        return dict(metadata), request, rpc

    def answer(self, service: str, method: str, response):
        _, request, rpc = self.take(service, method)
        rpc.terminate(response, (), grpc.StatusCode.OK, "")
        return request

    def refuse(self, service: str, method: str, error: errors.AppError):
        _, _, rpc = self.take(service, method)
        details = status.to_status(error, domain=f"{service}.mobot").SerializeToString()
        rpc.terminate(None, ((status.DETAILS_KEY, details),), status.to_grpc_code(error), error.message)


@pytest.fixture
def served():
    made = Served()
    yield made
    made.thread.shutdown(wait=True)


RECEIPT = router_service_pb2.SendMessageResponse(
    receipt=message_pb2.Receipt(
        message="messages/1",
        run="run-1",
        session="bots/main/sessions/main",
        state=message_pb2.MESSAGE_STATE_QUEUED,
        queue_position=2,
    )
)


@pytest.mark.parametrize(
    ("to", "field", "destination"),
    [
        ("bots/main", "bot", "bots/main"),
        ("agent:main:inbox", "session", "bots/main/sessions/inbox"),
        ("bots/main/sessions/inbox", "session", "bots/main/sessions/inbox"),
        ("topics/news", "topic", "topics/news"),
    ],
)
def test_sending_names_the_destination_and_gives_a_key(served, to, field, destination):
    sending = served.start(served.client.send, to, "hello")
    request = served.answer("router", "SendMessage", RECEIPT)
    receipt = sending.result(timeout=40)
    assert getattr(request.message, field) == destination
    assert request.message.parts[0].text == "hello"
    assert len(request.message.idempotency_key) == 36
    assert (receipt.run, receipt.state, receipt.queue_position) == ("run-1", "QUEUED", 2)


def test_every_call_carries_the_token(served):
    listing = served.start(served.client.bots)
    metadata, _, rpc = served.take("registry", "ListBots")
    rpc.terminate(registry_service_pb2.ListBotsResponse(), (), grpc.StatusCode.OK, "")
    assert listing.result(timeout=40) == ()
    assert metadata["authorization"] == "Bearer secret"


def test_a_send_is_repeated_under_the_same_key_while_the_router_is_away(served):
    sending = served.start(served.client.send, "bots/main", "hello")
    _, first, rpc = served.take("router", "SendMessage")
    rpc.terminate(None, (), grpc.StatusCode.UNAVAILABLE, "away")
    second = served.answer("router", "SendMessage", RECEIPT)
    assert sending.result(timeout=40).run == "run-1"
    assert first.message.idempotency_key == second.message.idempotency_key


def test_asking_waits_for_the_reply(served):
    asking = served.start(served.client.ask, "bots/main", "how are you")
    served.answer("router", "SendMessage", RECEIPT)
    done = message_pb2.Message(run="run-1", state=message_pb2.MESSAGE_STATE_SUCCEEDED, reply_text="fine")
    request = served.answer("router", "WaitRun", router_service_pb2.WaitRunResponse(message=done, done=True))
    assert request.run == "run-1"
    assert asking.result(timeout=40) == "fine"


def test_a_run_that_failed_is_no_reply_and_says_why(served):
    asking = served.start(served.client.ask, "bots/main", "how are you")
    served.answer("router", "SendMessage", RECEIPT)
    failed = message_pb2.Message(
        run="run-1",
        session="bots/main/sessions/main",
        state=message_pb2.MESSAGE_STATE_FAILED,
        last_error=message_pb2.RunError(reason="MODEL_UNAUTHORIZED", message="no key"),
    )
    served.answer("router", "WaitRun", router_service_pb2.WaitRunResponse(message=failed, done=True))
    with pytest.raises(NoReply, match="ended as FAILED") as raised:
        asking.result(timeout=40)
    assert raised.value.result.error_reason == "MODEL_UNAUTHORIZED"


def test_a_reply_that_does_not_come_in_time_is_told_from_a_failure(served):
    asking = served.start(served.client.ask, "bots/main", "how are you", timeout_s=0)
    served.answer("router", "SendMessage", RECEIPT)
    running = message_pb2.Message(run="run-1", state=message_pb2.MESSAGE_STATE_RUNNING)
    served.answer("router", "WaitRun", router_service_pb2.WaitRunResponse(message=running))
    with pytest.raises(NoReply, match="goes on") as raised:
        asking.result(timeout=40)
    assert not raised.value.result.done


def test_history_comes_oldest_first(served):
    reading = served.start(served.client.history, "agent:main:inbox", limit=2)
    events = [
        event_pb2.Event(
            id=str(number),
            sequence=number,
            message=event_pb2.MessageAppended(role=event_pb2.ROLE_USER, parts=[part_pb2.Part(text=f"line {number}")]),
        )
        for number in (2, 1)
    ]
    request = served.answer("session", "ListEvents", session_service_pb2.ListEventsResponse(events=events))
    assert request.parent == "bots/main/sessions/inbox"
    assert request.descending
    assert [entry.text for entry in reading.result(timeout=40)] == ["line 1", "line 2"]


def test_all_pages_of_bots_are_read(served):
    listing = served.start(served.client.bots)
    idle = bot_pb2.BotStatus(state=bot_pb2.BOT_STATE_IDLE)
    first = bot_pb2.Bot(name="bots/a", status=idle, brain=bot_pb2.Brain(echo=bot_pb2.EchoBrain()), enabled=True)
    served.answer("registry", "ListBots", registry_service_pb2.ListBotsResponse(bots=[first], next_page_token="next"))
    request = served.answer(
        "registry", "ListBots", registry_service_pb2.ListBotsResponse(bots=[bot_pb2.Bot(name="bots/b")])
    )
    found = listing.result(timeout=40)
    assert request.page_token == "next"
    assert [(bot.profile.id, bot.brain, bot.state) for bot in found] == [
        ("a", "echo", "IDLE"),
        ("b", "", "UNSPECIFIED"),
    ]


def test_what_is_remembered_is_recalled(served):
    stored = memory_pb2.Memory(name="bots/main/memories/m1", text="blue", kind=memory_pb2.MEMORY_KIND_FACT)
    remembering = served.start(served.client.remember, "bots/main", "blue", kind="fact")
    put = served.answer(
        "memory",
        "PutMemory",
        memory_service_pb2.PutMemoryResponse(result=memory_pb2.PutResult(memory=stored)),
    )
    assert put.draft.memory.kind == memory_pb2.MEMORY_KIND_FACT
    assert remembering.result(timeout=40).name == "bots/main/memories/m1"
    recalling = served.start(served.client.recall, "bots/main", "colour")
    hit = memory_service_pb2.SearchHit(memory=stored, score=0.5)
    served.answer("memory", "SearchMemories", memory_service_pb2.SearchMemoriesResponse(hits=[hit]))
    assert [(memory.text, memory.kind, memory.score) for memory in recalling.result(timeout=40)] == [
        ("blue", "fact", 0.5)
    ]


def test_a_refusal_keeps_its_class_and_reason(served):
    sending = served.start(served.client.send, "bots/nosuch", "hello")
    refusal = errors.NotFound("there is no bots/nosuch", reason="BOT_NOT_FOUND", metadata={"bot": "bots/nosuch"})
    served.refuse("router", "SendMessage", refusal)
    with pytest.raises(errors.NotFound) as raised:
        sending.result(timeout=40)
    assert raised.value.reason == "BOT_NOT_FOUND"
    assert raised.value.metadata == {"bot": "bots/nosuch"}


@pytest.mark.parametrize("to", ["nobody", "agent:main", "bots/../x", "agent:MAIN:a/b"])
def test_a_malformed_destination_is_refused_before_any_call(served, to):
    with pytest.raises(errors.InvalidArgument):
        served.client.send(to, "hello")
