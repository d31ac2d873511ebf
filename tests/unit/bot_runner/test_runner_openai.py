"""The openai brain against a real local endpoint that streams what the test scripted."""

import asyncio
import json

import pytest
from sdk_fakes.model_endpoint import Answer

from bot_runner.tools.catalog import tools_of
from mobot.memory.v1 import memory_pb2
from mobot.registry.v1 import bot_pb2
from mobot.session.v1 import event_pb2

SESSION = "bots/main/sessions/inbox"


@pytest.fixture
def ask(world, endpoint, hosting, monkeypatch):
    """Hosts an openai bot, sends the texts one after the other and returns the last message."""
    monkeypatch.setenv("TEST_MODEL_KEY", "key-123")

    async def ask(*texts: str, state: str = "SUCCEEDED", base_url: str = "", bot=None, send=None, **settings):
        settings.setdefault("max_retries", 0)
        openai = bot_pb2.OpenaiBrain(
            base_url=base_url or endpoint.base_url, model="fake", api_key_env="TEST_MODEL_KEY", **settings
        )
        world.registry.add_bot("main", brain=bot_pb2.Brain(openai=openai), instructions="Be brief.", **(bot or {}))
        async with hosting():
            for text in texts:
                run = await world.router.send(SESSION, text, **(send or {}))
                message = await world.router.wait(run, state, timeout_s=40)
        return message

    return ask


def spoken(request):
    return [(message["role"], message.get("content")) for message in request["messages"]]


async def test_an_answer_is_streamed_and_committed_with_its_usage(ask, world, endpoint):
    endpoint.answers = [Answer(words=["Good ", "mor", "ning"])]
    message = await ask("hi")
    event = world.session.log(SESSION).by_id[f"run/{message.run}/reply"]
    assert event.message.parts[0].text == "Good morning"
    assert event.message.model == "openai/fake"
    assert event.message.stop_reason == "stop"
    assert (event.message.usage.input_tokens, event.message.usage.output_tokens) == (11, 7)
    assert endpoint.keys == ["Bearer key-123"]
    assert endpoint.requests[0]["path"] == "/v1/chat/completions"
    assert endpoint.requests[0]["stream"] is True


async def test_history_and_instructions_are_put_before_the_message(ask, endpoint):
    endpoint.answers = [Answer(words=["one"]), Answer(words=["two"])]
    await ask("first", "second")
    (system, *rest) = spoken(endpoint.requests[1])
    assert rest == [("user", "first"), ("assistant", "one"), ("user", "second")]
    assert system[0] == "system"
    assert "You are Main" in system[1]
    assert "Be brief." in system[1]


async def test_old_history_gives_way_to_a_small_context_window(ask, endpoint):
    endpoint.answers = [Answer(words=["one"]), Answer(words=["two"])]
    await ask("long " * 2_000, "second", context_window_tokens=1_024)
    assert spoken(endpoint.requests[1])[1:] == [("assistant", "one"), ("user", "second")]


async def test_settings_reach_the_endpoint(ask, endpoint):
    endpoint.answers = [Answer(words=["ok"])]
    await ask("x", temperature=0.25, max_output_tokens=99, reasoning_effort="low")
    request = endpoint.requests[0]
    assert request["temperature"] == 0.25
    assert request.get("max_tokens", request.get("max_completion_tokens")) == 99
    assert request["reasoning_effort"] == "low"
    assert {tool["function"]["name"] for tool in request["tools"]} == set(tools_of(()))


async def test_tool_calls_are_made_committed_and_answered(ask, world, endpoint):
    endpoint.answers = [
        Answer(words=["Let me write that down."], calls=[("c1", "memory_save", {"text": "the sky is blue"})]),
        Answer(words=["Done."]),
    ]
    message = await ask("remember the sky")
    log = world.session.log(SESSION)
    assert log.kinds() == [
        "message",
        "run_started",
        "message",
        "tool_called",
        "tool_returned",
        "message",
        "run_finished",
    ]
    assert log.replies() == ["Let me write that down.", "Done."]
    assert log.events[3].tool_called.call_id == "c1"
    assert world.memory.memories[0].text == "the sky is blue"
    last = endpoint.requests[1]["messages"]
    assert last[-2]["tool_calls"][0]["id"] == "c1"
    assert last[-2]["content"] == "Let me write that down."
    assert json.loads(last[-1]["content"])["status"] == "ok"
    assert log.by_id[f"run/{message.run}/reply"].message.usage.tool_call_count == 1
    assert log.by_id[f"run/{message.run}/reply"].message.usage.request_count == 2


async def test_a_model_is_told_what_is_wrong_with_its_call(ask, endpoint):
    endpoint.answers = [
        Answer(calls=[("c1", "sessions_send", {"message": "x"}), ("c2", "no_such_tool", {})]),
        Answer(words=["sorry"]),
    ]
    await ask("go")
    first, second = endpoint.requests[1]["messages"][-2:]
    assert "exactly one of sessionKey" in first["content"]
    assert "There is no tool no_such_tool" in second["content"]


async def test_the_last_round_gets_no_tools(ask, endpoint):
    endpoint.answers = [
        Answer(calls=[("c1", "sessions_list", {})]),
        Answer(words=["enough"]),
    ]
    await ask("go", max_tool_rounds=1)
    assert "tools" in endpoint.requests[0]
    assert not endpoint.requests[1].get("tools")


async def test_a_retry_goes_on_behind_the_committed_calls(ask, world, endpoint):
    endpoint.answers = [
        Answer(calls=[("c1", "memory_save", {"text": "once"})]),
        Answer(status=503, error="overloaded"),
        Answer(words=["Saved."]),
    ]
    message = await ask("remember")
    assert message.attempts == 2
    assert world.memory.puts == 1
    assert world.session.log(SESSION).kinds().count("tool_called") == 1
    continued = endpoint.requests[2]["messages"]
    assert continued[-2]["tool_calls"][0]["function"]["name"] == "memory_save"
    assert json.loads(continued[-1]["content"])["status"] == "ok"


async def test_a_call_left_without_a_result_is_made_again_under_the_same_key(ask, world, endpoint):
    endpoint.answers = [Answer(calls=[("c1", "memory_save", {"text": "once"})]), Answer(words=["Saved."])]
    world.memory.lose_answers = 1
    message = await ask("remember")
    assert message.attempts == 2
    assert world.memory.puts == 2
    assert len(world.memory.memories) == 1
    assert world.session.log(SESSION).kinds().count("tool_called") == 1


async def test_what_is_remembered_comes_into_the_context_and_is_cited(ask, world, endpoint):
    world.memory.memories.append(memory_pb2.Memory(name="bots/main/memories/m1", text="the budget is 40"))
    endpoint.answers = [Answer(words=["40"])]
    message = await ask("what is the budget")
    assert "the budget is 40" in endpoint.requests[0]["messages"][0]["content"]
    event = world.session.log(SESSION).by_id[f"run/{message.run}/reply"]
    assert list(event.message.cited_memories) == ["bots/main/memories/m1"]


async def test_blocks_are_always_before_the_model_and_take_nothing_from_the_budget(ask, world, endpoint):
    world.memory.write_block("main", "human", "Her name is Ada.")
    world.memory.remember("main", "the budget is 40 " + "x" * 400)
    endpoint.answers = [Answer(words=["40"])]
    await ask("what is the budget", bot={"memory": bot_pb2.MemorySettings(recall_budget_tokens=10)})
    told = endpoint.requests[0]["messages"][0]["content"]
    assert "<human>\nHer name is Ada.\n</human>" in told
    assert "the budget is 40" not in told


async def test_pinned_memories_come_first_and_whatever_is_asked(ask, world, endpoint):
    pinned = world.memory.remember("main", "never share the key", pinned=True)
    found = world.memory.remember("main", "the budget is 40")
    endpoint.answers = [Answer(words=["40"])]
    message = await ask("budget")
    told = endpoint.requests[0]["messages"][0]["content"]
    assert told.index("[m1] never share the key") < told.index("[m2] the budget is 40")
    event = world.session.log(SESSION).by_id[f"run/{message.run}/reply"]
    assert list(event.message.cited_memories) == [pinned, found]


async def test_a_memory_service_that_is_away_does_not_stop_the_turn(ask, world, endpoint):
    world.memory.unavailable = True
    endpoint.answers = [Answer(words=["fine"])]
    await ask("x")


async def test_mail_of_another_bot_is_marked_as_such(ask, endpoint):
    endpoint.answers = [Answer(words=["ok"])]
    await ask("do it", send={"source": "bots/scout/sessions/main"})
    text = endpoint.requests[0]["messages"][-1]["content"]
    assert text == "[Message from bots/scout/sessions/main: another bot wrote it, not a person]\ndo it"


@pytest.mark.parametrize(
    ("answer", "state", "reason"),
    [
        (
            Answer(status=401, error="Incorrect API key provided: sk-abcdefghijklmnopqrstuvwx"),
            "FAILED",
            "MODEL_UNAUTHORIZED",
        ),
        (Answer(status=404, error="no such model"), "FAILED", "MODEL_NOT_FOUND"),
        (Answer(status=400, error="bad field"), "FAILED", "MODEL_REQUEST_REJECTED"),
        (Answer(status=429, error="slow down", headers={"retry-after": "7"}), "DEAD_LETTERED", "MODEL_RATE_LIMITED"),
        (Answer(status=500, error="oops"), "DEAD_LETTERED", "MODEL_UNAVAILABLE"),
        (Answer(status=503, error="later"), "DEAD_LETTERED", "MODEL_UNAVAILABLE"),
        (Answer(words=["half"], cut=True), "DEAD_LETTERED", "MODEL_CUT_OFF"),
    ],
)
async def test_failures_of_the_endpoint_are_told_apart(ask, world, endpoint, answer, state, reason):
    world.router.max_attempts = 1
    endpoint.answers = [answer]
    message = await ask("x", state=state)
    assert message.last_error.reason == reason
    assert "127.0.0.1" in message.last_error.message
    assert "sk-abc" not in message.last_error.message
    if answer.headers:
        assert world.router.failures[0].retry_delay.seconds == 7


async def test_an_endpoint_that_cannot_be_reached_is_tried_again_later(ask, world):
    world.router.max_attempts = 1
    message = await ask("x", state="DEAD_LETTERED", base_url="http://127.0.0.1:1/v1")
    assert message.last_error.reason == "MODEL_UNREACHABLE"
    assert message.last_error.message == "http://127.0.0.1:1/v1 cannot be reached"


async def test_a_call_that_fails_before_its_first_word_is_tried_again_at_once(ask, endpoint):
    endpoint.answers = [
        Answer(status=503, error="later", headers={"retry-after-ms": "10"}),
        Answer(words=["ok"]),
    ]
    message = await ask("x", max_retries=1)
    assert message.attempts == 1
    assert len(endpoint.requests) == 2


async def test_stopping_a_run_keeps_what_the_model_said_so_far(world, endpoint, hosting):
    hold = asyncio.Event()
    endpoint.answers = [Answer(words=["half", " whole"], hold=hold)]
    openai = bot_pb2.OpenaiBrain(base_url=endpoint.base_url, model="fake")
    world.registry.add_bot("main", brain=bot_pb2.Brain(openai=openai))
    async with hosting():
        run = await world.router.send(SESSION, "x")
        async with asyncio.timeout(40), world.session.changed:
            await world.session.changed.wait_for(lambda: world.session.text(run) == "half")
        await world.router.cancel(run)
        await world.router.wait(run, "CANCELLED")
    hold.set()
    event = world.session.log(SESSION).by_id[f"run/{run}/reply"]
    assert event.message.parts[0].text == "half"
    assert event.message.partial
    assert event.message.role == event_pb2.ROLE_ASSISTANT


async def test_a_model_that_has_nothing_to_say_to_another_bot_says_nothing(ask, world, endpoint):
    endpoint.answers = [Answer(words=["REPLY_", "SKIP"])]
    await ask("thank you", send={"source": "bots/scout/sessions/main", "reply_to": "bots/scout/sessions/main"})
    assert "answer REPLY_SKIP" in endpoint.requests[0]["messages"][0]["content"]
    assert world.session.log(SESSION).replies() == []
    assert [m.session for m in world.router.messages.values()] == [SESSION]


async def test_a_model_that_yields_is_not_asked_again(ask, world, endpoint):
    endpoint.answers = [
        Answer(
            calls=[
                ("c1", "sessions_spawn", {"task": "count", "sessionKey": "kid", "agentId": "scout"}),
                ("c2", "sessions_yield", {"message": "I am on it."}),
            ]
        )
    ]
    message = await ask("count for me")
    assert len(endpoint.requests) == 1
    assert world.router.replies[message.run] == "I am on it."
    assert "bots/scout/sessions/kid" in world.router.mailboxes


async def test_what_is_said_into_a_turn_is_answered_in_it(ask, world, endpoint):
    hold = asyncio.Event()
    endpoint.answers = [Answer(words=["First", " part."], hold=hold), Answer(words=["And that."])]
    asking = asyncio.ensure_future(ask("begin"))
    await world.router.wait_until(lambda: bool(world.router.begun))
    (run,) = world.router.messages
    await world.router.steer(run, "also this", "steered")
    async with asyncio.timeout(40), world.session.changed:
        await world.session.changed.wait_for(lambda: bool(world.session.deltas))
    hold.set()
    await asking
    assert world.session.log(SESSION).replies() == ["First part.", "And that."]
    assert spoken(endpoint.requests[1])[-2:] == [("assistant", "First part."), ("user", "also this")]
    assert "steered" in world.router.begun


async def test_a_child_is_told_that_it_has_a_task(ask, endpoint):
    endpoint.answers = [Answer(words=["42"])]
    await ask("add up", send={"source": "bots/scout/sessions/main", "type": "mobot.spawn"})
    told = endpoint.requests[0]["messages"]
    assert "goes to bots/scout/sessions/main" in told[0]["content"]
    assert "REPLY_SKIP" not in told[0]["content"]
    assert told[-1]["content"] == "add up"
