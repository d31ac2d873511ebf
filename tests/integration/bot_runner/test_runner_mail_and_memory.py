"""The runner and the real services: children, reflection, steering, blocks, and what survives a death."""

import asyncio

import grpc
import grpc.aio

from mobot.memory.v1 import memory_pb2, memory_service_pb2
from mobot.registry.v1 import bot_pb2
from mobot.router.v1 import message_pb2, router_service_pb2
from mobot.session.v1 import part_pb2

SESSION = "bots/main/sessions/inbox"


async def memories(services, bot="bots/main"):
    return list((await services.stubs.memory.ListMemories(memory_service_pb2.ListMemoriesRequest(parent=bot))).memories)


async def heard(services, session, words):
    """Returns once the session's transcript has a message with the words."""
    async with asyncio.timeout(40):
        while True:
            try:
                if any(words in getattr(entry, "text", "") for entry in await services.transcript(session)):
                    return
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.NOT_FOUND:
                    raise
            await asyncio.sleep(0.02)


async def test_what_was_recalled_is_cited_by_the_answer(services, hosting):
    await services.add_bot("main")
    async with hosting():
        await services.say(SESSION, "remember the sky is blue")
        assert await services.say(SESSION, "recall sky") == "I remember:\n- the sky is blue"
    (memory,) = await memories(services)
    replies = [event.message for event in await services.events(SESSION) if event.id.endswith("/reply")]
    assert [list(reply.cited_memories) for reply in replies] == [[], [memory.name]]
    assert memory.provenance.event_sequence > 0


async def test_a_bot_writes_its_blocks_and_forgets(services, hosting):
    await services.add_bot("main")
    async with hosting():
        assert await services.say(SESSION, "note human: Ada") == "human: Ada"
        assert await services.say(SESSION, "note human: likes tea") == "human: Ada\nlikes tea"
        assert await services.say("bots/main/sessions/other", "blocks") == "human: Ada\nlikes tea"
        await services.say(SESSION, "remember the sky is green")
        (memory,) = await memories(services)
        forgotten = await services.say(SESSION, f"forget {memory.name.rpartition('/')[2]}")
        assert forgotten.startswith("Forgotten")
        assert await services.say(SESSION, "recall green") == "I remember nothing about green."


async def test_a_finished_run_is_reflected_on_once(services, hosting):
    await services.add_bot("main", memory=bot_pb2.MemorySettings(reflection=True))
    async with hosting():
        await services.say(SESSION, "My name is Ada. I prefer tea.")
        await heard(services, "bots/main/sessions/reflection", "Learnt:")
        await services.say(SESSION, "My name is Ada.")
        await heard(services, "bots/main/sessions/reflection", "Nothing new.")
    found = await memories(services)
    assert sorted(memory.text for memory in found) == ["I prefer tea.", "My name is Ada."]
    assert {memory.provenance.source for memory in found} == {memory_pb2.MEMORY_SOURCE_REFLECTION}
    assert {memory.provenance.session for memory in found} == {SESSION}


async def test_a_childs_result_comes_back_to_the_session_that_spawned_it(services, hosting):
    await services.add_bot("main")
    async with hosting():
        said = await services.say(SESSION, "spawn count 3")
        assert "works on it" in said, said
        await heard(services, SESSION, "1 2 3")


async def test_a_bot_knows_the_others_and_how_its_session_is(services, hosting):
    await services.add_bot("main")
    await services.add_bot("scout")
    async with hosting():
        assert "- scout: scout" in await services.say(SESSION, "agents")
        assert (await services.say(SESSION, "status")).startswith("agent:main:inbox: ")


async def test_a_topic_reaches_every_bot_that_listens(services, hosting):
    for bot in ("main", "scout"):
        await services.add_bot(bot)
    router = services.stubs.router
    await router.CreateTopic(router_service_pb2.CreateTopicRequest(topic_id="news"))
    for bot in ("main", "scout"):
        await router.SubscribeTopic(
            router_service_pb2.SubscribeTopicRequest(topic="topics/news", subscriber=f"bots/{bot}/sessions/news")
        )
    draft = message_pb2.MessageDraft(
        topic="topics/news", parts=[part_pb2.Part(text="it rains")], idempotency_key="n1", user_input=True
    )
    async with hosting():
        await router.PublishTopic(router_service_pb2.PublishTopicRequest(message=draft))
        for bot in ("main", "scout"):
            await heard(services, f"bots/{bot}/sessions/news", "You said: it rains")
