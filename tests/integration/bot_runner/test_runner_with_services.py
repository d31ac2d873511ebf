"""The runner and the four real services: a conversation, tools, aborts, and what breaks in between."""

import asyncio

from bot_sdk.model import Said
from mobot.router.v1 import router_service_pb2
from mobot.session.v1 import session_pb2, session_service_pb2

SESSION = "bots/main/sessions/inbox"


def finished(events) -> list[tuple[str, int]]:
    return [(e.run, e.run_finished.outcome) for e in events if e.WhichOneof("payload") == "run_finished"]


async def test_a_conversation_is_answered_and_written_down(services, hosting):
    await services.add_bot("main", display_name="Maya")
    async with hosting():
        assert await services.say(SESSION, "hello") == "Maya here. You said: hello"
        assert (await services.say(SESSION, "history")).splitlines()[1:3] == [
            "- user: hello",
            "- assistant: Maya here. You said: hello",
        ]
    said = [(entry.role.value, entry.text) for entry in await services.transcript(SESSION) if isinstance(entry, Said)]
    assert said[:3] == [("user", "hello"), ("assistant", "Maya here. You said: hello"), ("user", "history")]


async def test_tools_reach_sessions_mail_and_memory(services, hosting):
    await services.add_bot("main")
    await services.add_bot("scout")
    async with hosting():
        assert await services.say(SESSION, "remember the sky is blue") == "I will remember: the sky is blue"
        assert await services.say(SESSION, "recall sky") == "I remember:\n- the sky is blue"
        assert (await services.say(SESSION, "send scout: hello")).startswith("Sent to agent:scout:main")
        answer = await services.say(SESSION, "ask agent:scout:desk: how are you")
        assert answer == f"agent:scout:desk replied: scout here. {SESSION} says: how are you"
        assert "- agent:main:inbox (running)" in await services.say(SESSION, "sessions")
    inbound = (await services.transcript("bots/scout/sessions/desk"))[0]
    assert inbound.inter_session
    assert inbound.source == SESSION


async def test_stopping_a_run_keeps_the_partial_answer_and_ends_it_once(services, hosting):
    await services.add_bot("main")
    async with hosting(echo_word_delay_s=0.05):
        watching = services.stubs.session.WatchEvents(session_service_pb2.WatchEventsRequest(include_deltas=True))
        run = await services.send(SESSION, "count 500")
        async for frame in watching:
            if frame.deltas:
                break
        await services.stubs.router.CancelRun(router_service_pb2.CancelRunRequest(run=run))
        result = await services.wait(run)
        watching.cancel()
        # The terminal event follows the settlement.
        assert (await services.say(SESSION, "hello")) == "main here. You said: hello"
    assert result.state == "CANCELLED"
    events = await services.events(SESSION)
    partial = next(event for event in events if event.id == f"run/{run}/reply")
    assert partial.message.partial
    assert partial.message.parts[0].text.startswith("1")
    assert [outcome for of, outcome in finished(events) if of == run] == [session_pb2.RUN_OUTCOME_CANCELLED]


async def test_a_runner_that_dies_in_the_middle_is_continued_by_the_next(services, hosting):
    await services.add_bot("main")
    async with hosting(echo_word_delay_s=0.05) as running:
        run = await services.send(SESSION, "count 60")
        await services.begun(SESSION, run)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    async with hosting():
        result = await services.wait(run)
    assert result.succeeded
    assert result.reply.endswith(" 59 60")
    events = await services.events(SESSION)
    assert [kind for kind in (event.WhichOneof("payload") for event in events) if kind == "run_started"] == [
        "run_started"
    ] * 2
    assert finished(events) == [(run, session_pb2.RUN_OUTCOME_SUCCEEDED)]
    assert len([event for event in events if event.id == f"run/{run}/reply"]) == 1


async def test_a_restart_of_the_router_in_the_middle_of_a_turn_is_not_noticed_by_it(services, hosting):
    await services.add_bot("main")
    async with hosting(echo_word_delay_s=0.03):
        run = await services.send(SESSION, "count 60")
        await services.begun(SESSION, run)
        await services.stop("router")
        await services.start("router")
        result = await services.wait(run)
    assert result.succeeded
    events = await services.events(SESSION)
    assert [event.run_finished.attempts for event in events if event.WhichOneof("payload") == "run_finished"] == [1]


async def test_a_restart_of_the_session_service_delays_an_answer_and_loses_nothing(services, hosting):
    await services.add_bot("main")
    async with hosting(echo_word_delay_s=0.03):
        run = await services.send(SESSION, "count 40")
        await services.begun(SESSION, run)
        await services.stop("session")
        await asyncio.sleep(1.2)
        await services.start("session")
        result = await services.wait(run)
        assert await services.say(SESSION, "hello") == "main here. You said: hello"
    assert result.succeeded
    assert result.reply.endswith(" 39 40")


async def test_a_restart_of_the_registry_keeps_the_bots_served(services, hosting):
    await services.add_bot("main")
    async with hosting():
        await services.stop("registry")
        await services.start("registry")
        await services.add_bot("scout")
        assert await services.say("bots/scout/sessions/main", "hello") == "scout here. You said: hello"
        assert await services.say(SESSION, "hello") == "main here. You said: hello"


async def test_many_messages_to_many_sessions_are_all_answered_once(services, hosting):
    await services.add_bot("main")
    async with hosting():
        runs = await asyncio.gather(
            *(services.send(f"bots/main/sessions/s{number % 50}", f"n{number}") for number in range(200))
        )
        results = await asyncio.gather(*(services.wait(run) for run in runs))
    assert [result.reply for result in results] == [f"main here. You said: n{number}" for number in range(200)]


async def test_a_failed_run_tells_why_and_the_next_one_goes_on(services, hosting):
    await services.add_bot("main")
    async with hosting():
        failed = await services.wait(await services.send(SESSION, "fail"))
        assert (failed.state, failed.error_reason) == ("FAILED", "ECHO_FAILED")
        assert await services.say(SESSION, "retry") == "This is attempt 2."
