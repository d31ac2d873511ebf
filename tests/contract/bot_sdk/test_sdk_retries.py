"""What a worker does when handlers fail, and what the next attempt is handed."""

import asyncio

import pytest

from bot_sdk.errors import NeedsDecision, Permanent, Retryable
from bot_sdk.model import Effect
from bot_sdk.steps import CommittedCall, ToolAnswer, ToolRequest
from chassis import errors

SESSION = "bots/main/sessions/inbox"


async def test_an_unknown_exception_is_retried_and_its_stack_stays_here(world):
    async def handler(turn):
        if turn.attempt == 1:
            raise ValueError("no such luck")
        return "luck"

    async with world.serving({"main": handler}):
        run = await world.router.send(SESSION, "x")
        await world.router.wait(run, "SUCCEEDED")
    failure = world.router.failures[0]
    assert failure.retryable
    assert failure.error.reason == "HANDLER_ERROR"
    assert failure.error.message == "ValueError: no such luck"


@pytest.mark.parametrize(
    ("raised", "retryable", "reason"),
    [
        (Permanent("never", reason="MODEL_REFUSED"), False, "MODEL_REFUSED"),
        (errors.NotFound("no such thing", reason="SESSION_NOT_FOUND"), False, "SESSION_NOT_FOUND"),
        (errors.Unavailable("not now", reason=""), True, "UNAVAILABLE"),
    ],
)
async def test_a_handler_says_whether_another_attempt_may_help(world, raised, retryable, reason):
    async def handler(turn):
        raise raised

    world.router.max_attempts = 2
    async with world.serving({"main": handler}):
        run = await world.router.send(SESSION, "x")
        await world.router.wait(run, "DEAD_LETTERED" if retryable else "FAILED")
    assert world.router.failures[0].error.reason == reason
    assert world.router.failures[0].retryable is retryable


async def test_a_wait_before_the_next_attempt_is_passed_on(world):
    async def handler(turn):
        if turn.attempt == 1:
            raise Retryable("busy", reason="MODEL_RATE_LIMITED", retry_after_s=7)
        return "ok"

    async with world.serving({"main": handler}):
        await world.router.wait(await world.router.send(SESSION, "x"), "SUCCEEDED")
    assert world.router.failures[0].retry_delay.seconds == 7


async def test_a_retry_is_handed_the_steps_that_were_committed(world):
    made = []

    async def handler(turn):
        async def make():
            made.append(turn.attempt)
            return {"answer": 42}

        first = await turn.step("think", make)
        if turn.attempt == 1:
            raise Retryable("again")
        return f"{first['answer']}"

    async with world.serving({"main": handler}):
        run = await world.router.send(SESSION, "x")
        await world.router.wait(run, "SUCCEEDED")
    assert made == [1]
    assert world.session.log(SESSION).replies() == ["42"]


async def test_a_retry_does_not_repeat_a_committed_tool_call(world):
    made = []

    async def handler(turn):
        for number in range(2):

            async def make(number=number):
                made.append(number)
                return ToolAnswer(f"result {number}")

            request = ToolRequest("lookup", f'{{"n":{number}}}', Effect.ONCE)
            answer = await turn.call_tool(request, make)
            if turn.attempt == 1 and number == 0:
                raise Retryable("again")
        return answer.text

    async with world.serving({"main": handler}):
        run = await world.router.send(SESSION, "x")
        await world.router.wait(run, "SUCCEEDED")
    log = world.session.log(SESSION)
    assert made == [0, 1]
    assert log.replies() == ["result 1"]
    assert f"run/{run}/step/1/called" in log.by_id
    assert f"run/{run}/step/2/returned" in log.by_id
    assert log.kinds().count("tool_called") == 2


async def test_a_brain_that_goes_on_behind_its_committed_steps_counts_from_there(world):
    seen = []

    async def handler(turn):
        committed = await turn.committed()
        seen.append([(step.request.tool, step.result.text) for step in committed if isinstance(step, CommittedCall)])

        async def make():
            return ToolAnswer(f"by attempt {turn.attempt}")

        await turn.call_tool(ToolRequest("lookup", "{}", Effect.IDEMPOTENT, call_id=f"c{turn.attempt}"), make)
        if turn.attempt == 1:
            raise Retryable("again")
        return "ok"

    async with world.serving({"main": handler}):
        run = await world.router.send(SESSION, "x")
        await world.router.wait(run, "SUCCEEDED")
    assert seen == [[], [("lookup", "by attempt 1")]]
    log = world.session.log(SESSION)
    assert log.by_id[f"run/{run}/step/2/called"].tool_called.call_id == "c2"


async def test_a_call_in_doubt_that_must_not_be_repeated_asks_a_person(world):
    async def handler(turn):
        async def make():
            raise Retryable("the line broke in the middle")

        await turn.call_tool(ToolRequest("pay", "{}", Effect.ONCE), make)

    async with world.serving({"main": handler}):
        run = await world.router.send(SESSION, "x")
        await world.router.wait(run, "FAILED")
    asked = world.router.failures[-1]
    assert asked.error.reason == "TOOL_IN_DOUBT"
    assert list(asked.decision_request.choices) == ["retry", "skip"]


async def test_a_handler_can_ask_a_person_itself(world):
    async def handler(turn):
        raise NeedsDecision("Really?", choices=["yes", "no"])

    async with world.serving({"main": handler}):
        await world.router.wait(await world.router.send(SESSION, "x"), "FAILED")
    assert world.router.failures[0].decision_request.question == "Really?"
    assert not world.router.failures[0].retryable


async def test_a_retry_of_a_run_whose_reply_is_committed_only_completes_it(world):
    called = []

    async def handler(turn):
        called.append(turn.attempt)
        await turn.reply("once")
        raise Retryable("lost after the commit")

    async with world.serving({"main": handler}):
        run = await world.router.send(SESSION, "x")
        await world.router.wait(run, "SUCCEEDED")
    assert called == [1]
    assert world.session.log(SESSION).replies() == ["once"]
    assert world.router.replies[run] == "once"


async def test_a_new_attempt_replaces_what_was_streamed_by_the_last(world):
    async def handler(turn):
        turn.stream(f"attempt {turn.attempt}")
        await world.session.shown(turn.run, f"attempt {turn.attempt}")
        if turn.attempt == 1:
            raise Retryable("again")

    async with world.serving({"main": handler}):
        run = await world.router.send(SESSION, "x")
        await world.router.wait(run, "SUCCEEDED")
    assert [(delta.text, delta.replace, delta.epoch) for delta in world.session.deltas] == [
        ("attempt 1", False, 1),
        ("attempt 2", True, 2),
    ]


async def test_a_cancellation_that_is_the_handlers_own_ends_the_attempt(world):
    attempts = []

    async def handler(turn):
        attempts.append(turn.attempt)
        if turn.attempt == 1:
            task = asyncio.ensure_future(asyncio.sleep(60))
            task.cancel()
            await task
        return "ok"

    async with world.serving({"main": handler}):
        await world.router.wait(await world.router.send(SESSION, "x"), "SUCCEEDED")
    assert attempts == [1, 2]
    assert world.router.failures[0].error.message == "CancelledError"


async def test_one_failure_of_things_done_side_by_side_is_taken_for_what_it_is(world):
    async def refuse():
        raise Permanent("never", reason="MODEL_REFUSED")

    async def handler(turn):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(refuse())

    async with world.serving({"main": handler}):
        await world.router.wait(await world.router.send(SESSION, "x"), "FAILED")
    assert world.router.failures[0].error.reason == "MODEL_REFUSED"


async def test_text_that_no_message_may_hold_is_mended(world):
    async def handler(turn):
        turn.stream("a\0b")
        turn.stream("\ud800")

    async with world.serving({"main": handler}):
        await world.router.wait(await world.router.send(SESSION, "x"), "SUCCEEDED")
    assert world.session.log(SESSION).replies() == ["ab?"]


async def test_a_turn_that_says_nothing_ends_without_a_reply(world):
    async def handler(turn):
        return None

    async with world.serving({"main": handler}):
        run = await world.router.send(SESSION, "x")
        await world.router.wait(run, "SUCCEEDED")
    assert world.session.log(SESSION).replies() == []
    assert world.router.replies[run] == ""


async def test_a_second_reply_is_a_mistake_of_the_handler(world):
    async def handler(turn):
        await turn.reply("one")
        await turn.reply("two")

    async with world.serving({"main": handler}):
        run = await world.router.send(SESSION, "x")
        await world.router.wait(run, "SUCCEEDED")
    assert world.session.log(SESSION).replies() == ["one"]
