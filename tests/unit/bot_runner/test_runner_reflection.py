"""What a finished run taught becomes memories, once, and only when the bot's settings ask for it."""

import pytest
from sdk_fakes.model_endpoint import Answer

from bot_runner.brains.distilling import facts_in
from bot_runner.reflection import MAX_FACTS, REFLECTION_TYPE, Fact, Reflecting
from bot_sdk.errors import Retryable
from chassis import errors
from mobot.memory.v1 import memory_pb2
from mobot.registry.v1 import bot_pb2

SESSION = "bots/main/sessions/inbox"
REFLECTIONS = "bots/main/sessions/reflection"
ECHO = bot_pb2.Brain(echo=bot_pb2.EchoBrain())
ON = bot_pb2.MemorySettings(reflection=True)


def runs_of(world, session):
    return [run for run, message in world.router.messages.items() if message.session == session]


@pytest.fixture
def talk(world, hosting):
    """Hosts main, says something to it and returns once what came of it was reflected on, if it is at all."""

    async def talk(text: str, memory=ON, brain=ECHO):
        world.registry.add_bot("main", brain=brain, memory=memory)
        async with hosting():
            run = await world.router.send(SESSION, text)
            await world.router.wait(run, "SUCCEEDED")
            for reflection in runs_of(world, REFLECTIONS):
                await world.router.wait(reflection, "SUCCEEDED", "DEAD_LETTERED", "FAILED")
        return run

    return talk


async def test_it_is_off_unless_the_bot_asks_for_it(talk, world):
    await talk("My name is Ada.", memory=bot_pb2.MemorySettings())
    assert runs_of(world, REFLECTIONS) == []
    assert world.memory.memories == []


async def test_what_a_person_told_is_remembered_with_where_it_comes_from(talk, world):
    run = await talk("Good morning! My name is Ada. I prefer tea. What is my name?")
    assert [memory.text for memory in world.memory.memories] == ["My name is Ada.", "I prefer tea."]
    assert world.memory.memories[1].kind == memory_pb2.MEMORY_KIND_PREFERENCE
    provenance = world.memory.memories[0].provenance
    assert (provenance.session, provenance.run_id, provenance.event_sequence) == (SESSION, run, 1)
    assert provenance.source == memory_pb2.MEMORY_SOURCE_REFLECTION


async def test_the_reflection_itself_is_not_reflected_on(talk, world):
    await talk("My name is Ada.")
    assert len(runs_of(world, REFLECTIONS)) == 1


async def test_a_repeated_reflection_puts_nothing_twice(talk, world):
    world.memory.lose_answers = 2  # stored, and the run that stored it does not hear of it
    await talk("My name is Ada. I live in Turin.")
    assert [memory.text for memory in world.memory.memories] == ["My name is Ada.", "I live in Turin."]
    (run,) = runs_of(world, REFLECTIONS)
    assert world.router.messages[run].attempts == 3
    assert len([e for e in world.session.log(REFLECTIONS).events if e.WhichOneof("payload") == "tool_called"]) == 1


async def test_what_is_known_already_is_not_learnt_again(talk, world):
    world.memory.remember("main", "My name is Ada.")
    await talk("My name is Ada.")
    assert len(world.memory.memories) == 1
    assert world.session.log(REFLECTIONS).replies() == ["Nothing new."]


async def test_what_says_nearly_the_same_gives_way_to_the_older(talk, world):
    older = world.memory.remember("main", "Ada is her name")
    world.memory.near = [memory_pb2.NearDuplicate(memory=older, similarity=0.97)]
    await talk("My name is Ada.")
    assert [memory.name for memory in world.memory.memories] == [older]


async def test_nobody_else_can_order_a_reflection(world, hosting):
    world.registry.add_bot("main", brain=ECHO, memory=ON)
    async with hosting():
        run = await world.router.send(
            REFLECTIONS, "go", type=REFLECTION_TYPE, metadata={"mobot.session": SESSION, "mobot.run": "x"}
        )
        await world.router.wait(run, "SUCCEEDED")
    assert world.session.log(REFLECTIONS).replies() == ["Main here. You said: go"]


async def test_a_reply_that_was_committed_before_a_crash_is_reflected_on_all_the_same(world):
    turns = []

    async def brain(turn):
        turns.append(turn.attempt)
        await turn.reply("hello")
        raise Retryable("dies between the reply and the completion")

    async def distil(turn, talk):
        return [Fact(f"learnt from {len(talk)} lines")]

    async with world.serving({"main": Reflecting(brain, distil)}):
        run = await world.router.send(SESSION, "hi")
        message = await world.router.wait(run, "SUCCEEDED")
        (reflection,) = runs_of(world, REFLECTIONS)
        await world.router.wait(reflection, "SUCCEEDED")
    assert (turns, message.attempts) == ([1], 2)
    assert [memory.text for memory in world.memory.memories] == ["learnt from 2 lines"]


async def test_a_model_distils_and_is_told_what_is_known(talk, world, endpoint):
    world.memory.remember("main", "Ada lives in Turin")
    openai = bot_pb2.OpenaiBrain(base_url=endpoint.base_url, model="fake", max_retries=0)
    endpoint.answers = [
        Answer(words=["Noted."]),
        Answer(words=['Sure: [{"text": "Ada wants tea at four", ', '"kind": "preference", "importance": 0.8}]']),
    ]
    await talk("Ada says: tea at four", brain=bot_pb2.Brain(openai=openai))
    assert world.memory.memories[-1].text == "Ada wants tea at four"
    assert world.memory.memories[-1].importance == 0.8
    told = endpoint.requests[1]["messages"][-1]["content"]
    assert "- Ada lives in Turin" in told
    assert "user: Ada says: tea at four" in told
    assert "tools" not in endpoint.requests[1]


@pytest.mark.parametrize(
    ("answer", "texts"),
    [
        ("[]", []),
        ("I found nothing.", []),
        ("[{]", []),
        ('[1, "x", {"kind": "fact"}, {"text": ""}, {"text": 5}, {"text": " a "}]', ["a"]),
        ('```json\n[{"text": "a"}]\n```', ["a"]),
    ],
)
def test_a_models_answer_that_is_not_as_asked_teaches_what_it_can(answer, texts):
    assert [fact.text for fact in facts_in(answer)] == texts


def test_importance_and_kind_are_brought_into_their_bounds():
    (fact,) = facts_in('[{"text": "a", "kind": "rumour", "importance": 7}]')
    assert (fact.kind, fact.importance) == ("fact", 1.0)
    (fact,) = facts_in('[{"text": "a", "importance": true}]')
    assert fact.importance == 0.5


async def test_a_run_teaches_no_more_than_a_handful(world):
    async def brain(turn):
        return "hello"

    async def distil(turn, talk):
        return [Fact(f"fact {number}") for number in range(100)]

    async with world.serving({"main": Reflecting(brain, distil)}):
        await world.router.wait(await world.router.send(SESSION, "hi"), "SUCCEEDED")
        (run,) = runs_of(world, REFLECTIONS)
        await world.router.wait(run, "SUCCEEDED")
    assert len(world.memory.memories) == MAX_FACTS


async def test_a_memory_that_is_away_is_tried_again(talk, world):
    world.memory.lose_answers = 9
    await talk("My name is Ada.")
    (run,) = runs_of(world, REFLECTIONS)
    assert world.router.messages[run].last_error.reason == errors.DRAINING
    assert len(world.memory.memories) == 1
