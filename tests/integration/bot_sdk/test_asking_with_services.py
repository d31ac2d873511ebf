"""Replies that come late, and calls that are in doubt: the real SDK on the real router."""

import asyncio

import pytest
from sdk_fakes.gate import Gate

from bot_sdk.errors import NeedsDecision, NoReply
from bot_sdk.model import Effect
from bot_sdk.steps import ToolAnswer, ToolRequest
from mobot.router.v1 import router_service_pb2
from mobot.session.v1 import event_pb2

DESK = "bots/main/sessions/desk"


async def decide(services, run, answer):
    request = router_service_pb2.ResolveRunRequest(run=run)
    request.decision.answer = answer
    await services.stubs.router.ResolveRun(request)


@pytest.mark.parametrize("router_restarts", [False, True], ids=["router stays", "router restarts"])
async def test_a_reply_that_comes_late_is_a_message_to_who_asked(services, serving, router_restarts):
    for bot in ("main", "slow"):
        await services.add_bot(bot)
    gate = Gate()
    came = asyncio.get_running_loop().create_future()

    async def asker(turn):
        if turn.message.source.startswith("bots/"):
            came.set_result((turn.message.source, turn.text))
            return None
        with pytest.raises(NoReply) as missed:
            await turn.ask("bots/slow/sessions/den", "how long?", timeout_s=0.3)
        return f"{missed.value.result.state} by now"

    async def slow(turn):
        await gate.pass_through()
        return "that long"

    async with serving({"main": asker, "slow": slow}):
        assert (await services.wait(await services.send(DESK, "ask"))).reply == "RUNNING by now"
        if router_restarts:
            await services.stop("router")
            await services.start("router")
        gate.open.set()
        async with asyncio.timeout(40):
            assert await came == ("bots/slow/sessions/den", "that long")
    said = [e.message.parts[0].text for e in await services.events(DESK) if e.HasField("message")]
    assert said == ["ask", "RUNNING by now", "that long"]


class Payer:
    """A bot with a tool that must not run twice, and that waits in the middle of what it does."""

    def __init__(self):
        self.payments = []
        self.paying = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self, turn):
        async def pay():
            self.payments.append(turn.attempt)
            self.paying.set()
            await self.go_on.wait()
            return ToolAnswer("paid")

        answer = await turn.call_tool(ToolRequest("pay", "{}", Effect.ONCE), pay)
        return f"{answer.text} in attempt {turn.attempt}"

    async def die_while_paying(self, services, serving):
        async with serving({"main": self}) as worker:
            async with asyncio.timeout(40):
                await self.paying.wait()
            await worker.die()
        self.paying.clear()


async def questions(services):
    events = await services.events(DESK)
    return [e.decision_requested.question for e in events if e.HasField("decision_requested")]


async def test_a_call_in_doubt_asks_again_when_the_worker_dies_in_what_a_person_had_it_repeat(services, serving):
    await services.add_bot("main")
    payer = Payer()
    run = await services.send(DESK, "pay")
    await payer.die_while_paying(services, serving)
    async with serving({"main": payer}):
        first = await services.until_state(run, "NEEDS_DECISION")
    await decide(services, run, "retry")
    await payer.die_while_paying(services, serving)
    assert payer.payments == [1, 3]
    async with serving({"main": payer}):
        # The answer that was given is spent: a third payment would be nobody's decision.
        second = await services.until_state(run, "NEEDS_DECISION")
        assert second.decision_request.call_id != first.decision_request.call_id
        payer.go_on.set()
        await decide(services, run, "retry")
        assert (await services.wait(run)).reply == "paid in attempt 5"
    assert payer.payments == [1, 3, 5]
    assert len(await questions(services)) == 2
    called = [e for e in await services.events(DESK) if e.HasField("tool_called")]
    assert [e.tool_called.effect for e in called] == [event_pb2.TOOL_EFFECT_ONCE]


async def test_an_answer_in_words_is_what_the_call_in_doubt_is_taken_to_have_answered(services, serving):
    await services.add_bot("main")
    payer = Payer()
    run = await services.send(DESK, "pay")
    await payer.die_while_paying(services, serving)
    async with serving({"main": payer}):
        await services.until_state(run, "NEEDS_DECISION")
        await decide(services, run, "skip")
        assert (await services.wait(run)).reply.startswith("The call was skipped by a person's decision")
    assert payer.payments == [1]


async def test_the_answer_to_a_handlers_own_question_decides_no_call(services, serving):
    await services.add_bot("main")
    payer = Payer()

    async def careful(turn):
        if turn.decision is None:
            raise NeedsDecision("Really?", choices=["retry", "no"])
        return await payer(turn)

    run = await services.send(DESK, "pay")
    async with serving({"main": careful}) as worker:
        await services.until_state(run, "NEEDS_DECISION")
        await decide(services, run, "retry")
        async with asyncio.timeout(40):
            await payer.paying.wait()
        await worker.die()
    payer.go_on.set()
    async with serving({"main": careful}):
        asked = await services.until_state(run, "NEEDS_DECISION")
        assert asked.decision_request.question.startswith("The call of pay was begun")
    assert payer.payments == [2]
