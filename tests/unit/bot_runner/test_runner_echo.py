"""The echo brain and, through it, the five tools."""

import asyncio
import json

import pytest
from google.protobuf import duration_pb2

from mobot.registry.v1 import bot_pb2
from mobot.session.v1 import event_pb2

SESSION = "bots/main/sessions/inbox"
ECHO = bot_pb2.Brain(echo=bot_pb2.EchoBrain())


@pytest.fixture
def say(world, hosting):
    """Says something to main and returns what it answers."""
    world.registry.add_bot("main", brain=ECHO)
    world.registry.add_bot("scout", brain=ECHO)

    async def say(text: str, state: str = "SUCCEEDED") -> str:
        async with hosting():
            run = await world.router.send(SESSION, text)
            await world.router.wait(run, state)
        return world.router.replies.get(run, "")

    return say


async def test_it_says_who_it_is_and_what_it_was_told(say, world):
    assert await say("hello,  world") == "Main here. You said: hello,  world"
    assert world.session.log(SESSION).replies() == ["Main here. You said: hello,  world"]


async def test_it_streams_word_by_word_at_the_pace_of_its_settings(world, hosting):
    delay = duration_pb2.Duration(nanos=40_000_000)
    world.registry.add_bot("main", brain=bot_pb2.Brain(echo=bot_pb2.EchoBrain(word_delay=delay)))
    async with hosting(echo_word_delay_s=0.0):
        run = await world.router.send(SESSION, "one two three")
        await world.router.wait(run, "SUCCEEDED")
    assert len(world.session.deltas) >= 4
    assert "Main here. You said: one two three".startswith(world.session.text(run))


async def test_mail_is_sent_and_not_waited_for(say, world):
    answer = await say("send scout: hello there")
    sent = world.router.drafts[-1]
    assert answer.startswith("Sent to agent:scout:main")
    assert sent.bot == "bots/scout"
    assert sent.parts[0].text == "hello there"
    assert sent.source == SESSION
    assert not sent.user_input


async def test_asking_waits_for_the_reply(say, world):
    answer = await say("ask agent:scout:desk: how are you")
    assert answer == f"agent:scout:desk replied: Scout here. {SESSION} says: how are you"


async def test_mail_to_nobody_says_so(say):
    assert await say("send nosuch: hello") == "That did not work: there is no such bot"


async def test_what_is_remembered_is_recalled(world, hosting):
    world.registry.add_bot("main", brain=ECHO)
    async with hosting():
        answers = []
        for text in ["remember the sky is blue", "recall sky", "recall grass"]:
            run = await world.router.send(SESSION, text)
            await world.router.wait(run, "SUCCEEDED")
            answers.append(world.router.replies[run])
    assert answers == [
        "I will remember: the sky is blue",
        "I remember:\n- the sky is blue",
        "I remember nothing about grass.",
    ]


async def test_sessions_and_history_are_its_own(world, hosting):
    world.registry.add_bot("main", brain=ECHO)
    world.session.log("bots/scout/sessions/secret")
    async with hosting():
        answers = []
        for text in ["sessions", "history", "history agent:scout:secret"]:
            run = await world.router.send(SESSION, text)
            await world.router.wait(run, "SUCCEEDED")
            answers.append(world.router.replies[run])
    assert answers[0] == "I have 1 sessions:\n- agent:main:inbox (idle)"
    assert answers[1].startswith("The newest of agent:main:inbox:\n- user: sessions\n- assistant: I have 1 sessions")
    assert answers[2] == "That did not work: there is no session agent:scout:secret"


async def test_tool_calls_are_written_with_deterministic_ids(say, world):
    await say("remember the sky is blue")
    log = world.session.log(SESSION)
    assert log.kinds() == ["message", "run_started", "tool_called", "tool_returned", "message", "run_finished"]
    called = log.events[2]
    assert called.id == f"run/{called.run}/step/1/called"
    assert called.tool_called.tool == "memory_save"
    assert json.loads(called.tool_called.arguments_json) == {"text": "the sky is blue"}
    assert called.tool_called.effect == event_pb2.TOOL_EFFECT_IDEMPOTENT
    assert json.loads(log.events[3].tool_returned.parts[0].text)["status"] == "ok"


async def test_a_run_that_begins_again_sends_no_mail_twice(world, hosting):
    world.registry.add_bot("main", brain=ECHO)
    async with hosting(echo_word_delay_s=0.2) as host:
        run = await world.router.send(SESSION, "send scout: hello")
        async with asyncio.timeout(40), world.session.changed:
            await world.session.changed.wait_for(lambda: world.session.text(run))
        await world.router.take_lease_away(run)
        await world.router.cancel(run, lease_lost=True)
        await world.router.pump()
        await world.router.wait(run, "SUCCEEDED", timeout_s=40)
        assert host.worker.working == 0
    assert len([draft for draft in world.router.drafts if draft.bot == "bots/scout"]) == 1
    assert world.session.log(SESSION).kinds().count("tool_called") == 1


async def test_words_of_another_bot_are_no_commands(world, hosting):
    world.registry.add_bot("main", brain=ECHO)
    async with hosting():
        run = await world.router.send(SESSION, "remember evil", source="bots/scout/sessions/main")
        await world.router.wait(run, "SUCCEEDED")
    assert world.memory.memories == []
    assert world.router.replies[run] == "Main here. bots/scout/sessions/main says: remember evil"


async def test_it_fails_and_is_retried_on_request(world, hosting):
    world.registry.add_bot("main", brain=ECHO)
    async with hosting():
        failed = await world.router.send(SESSION, "fail")
        await world.router.wait(failed, "FAILED")
        retried = await world.router.send(SESSION, "retry")
        await world.router.wait(retried, "SUCCEEDED")
    assert world.router.messages[failed].last_error.reason == "ECHO_FAILED"
    assert world.router.replies[retried] == "This is attempt 2."


@pytest.mark.parametrize("text", ["help", "/help", "help me please", "count 3", "count the sheep", "", "   "])
async def test_commands_are_taken_for_commands_only_when_they_are(say, text):
    answer = await say(text)
    expected = {"help": "I am Main", "/help": "I am Main", "count 3": "1 2 3"}.get(text, "Main here. You said:")
    assert answer.startswith(expected)
