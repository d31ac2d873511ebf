"""What a worker does when streams break, leases are lost, people stop runs, and handlers fail."""

import asyncio

import pytest

from bot_sdk.errors import LeaseLost, NeedsDecision, Permanent, Retryable, WorkerReplaced
from bot_sdk.model import Effect
from bot_sdk.steps import CommittedCall, ToolAnswer, ToolRequest
from bot_sdk.worker import Worker
from chassis import errors

SESSION = "bots/main/sessions/inbox"


class Gate:
    """A handler's stop in the middle."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.open = asyncio.Event()

    async def pass_through(self) -> None:
        self.reached.set()
        await self.open.wait()


async def _reached(gate: Gate) -> None:
    async with asyncio.timeout(40):
        await gate.reached.wait()


async def test_a_broken_stream_in_the_middle_of_a_turn_changes_nothing_for_it(world):
    gate = Gate()
    started = []

    async def handler(turn):
        started.append(turn.attempt)
        await gate.pass_through()
        return "done"

    async with world.serving({"main": handler}):
        run = await world.router.send(SESSION, "x")
        await _reached(gate)
        world.router.cut()
        await world.router.wait_until(lambda: len(world.router.hellos) == 2)
        assert [(held.run, held.epoch) for held in world.router.hellos[1].held_leases] == [(run, 1)]
        gate.open.set()
        message = await world.router.wait(run, "SUCCEEDED")
    assert message.attempts == 1
    assert started == [1]
    assert world.session.log(SESSION).replies() == ["done"]


async def test_a_result_that_was_not_settled_is_given_again_over_the_next_stream(world):
    async def handler(turn):
        return "done"

    async with world.serving({"main": handler}):
        world.router.hold_settlements = True
        run = await world.router.send(SESSION, "x")
        await world.router.wait(run, "SUCCEEDED")
        world.router.hold_settlements = False
        world.router.cut()
        await world.router.wait_until(lambda: len(world.router.hellos) == 2)
        # The router had taken the completion, so it calls the lease lost and the worker forgets the run.
        assert [held.run for held in world.router.hellos[1].held_leases] == [run]
        second = await world.router.send(SESSION, "y")
        await world.router.wait(second, "SUCCEEDED")
        world.router.cut()
        await world.router.wait_until(lambda: len(world.router.hellos) == 3)
        assert list(world.router.hellos[2].held_leases) == []
    assert world.session.log(SESSION).kinds().count("run_finished") == 2


async def test_a_turn_that_ended_while_detached_is_completed_after_the_next_hello(world):
    gate = Gate()

    async def handler(turn):
        await gate.pass_through()
        return "done"

    async with world.serving({"main": handler}):
        run = await world.router.send(SESSION, "x")
        await _reached(gate)
        world.router.refuse_attach = errors.Unavailable("not yet", reason=errors.DRAINING)
        world.router.cut()
        await world.router.wait_until(lambda: not world.router.workers)
        gate.open.set()
        async with asyncio.timeout(40), world.session.changed:
            await world.session.changed.wait_for(lambda: world.session.log(SESSION).replies())
        world.router.refuse_attach = None
        message = await world.router.wait(run, "SUCCEEDED")
    assert message.attempts == 1


async def test_a_lease_that_was_lost_while_detached_stops_the_turn_and_nothing_is_written(world):
    gate = Gate()
    ended = []

    async def handler(turn):
        if turn.attempt == 2:
            return "second"
        turn.stream("first")
        try:
            await gate.pass_through()
        finally:
            ended.append(turn.attempt)
        return "first"

    async with world.serving({"main": handler}):
        run = await world.router.send(SESSION, "x")
        await _reached(gate)
        await world.router.take_lease_away(run)
        world.router.cut()
        message = await world.router.wait(run, "SUCCEEDED")
    assert ended == [1]
    assert message.attempts == 2
    assert world.session.log(SESSION).replies() == ["second"]


async def test_a_fenced_append_ends_the_turn_without_a_word(world):
    gate = Gate()
    fenced = asyncio.Event()

    async def handler(turn):
        if turn.attempt == 2:
            return "second"
        await gate.pass_through()
        try:
            await turn.reply("first")
        except LeaseLost:
            fenced.set()
            raise
        return None

    async with world.serving({"main": handler}):
        run = await world.router.send(SESSION, "x")
        await _reached(gate)
        await world.router.take_lease_away(run)
        gate.open.set()
        async with asyncio.timeout(40):
            await fenced.wait()
        await world.router.pump()
        await world.router.wait(run, "SUCCEEDED")
    assert world.router.failures == []
    assert world.session.log(SESSION).replies() == ["second"]


async def test_losing_the_lease_over_the_stream_stops_the_handler_at_once(world):
    gate = Gate()
    stopped = asyncio.Event()

    async def handler(turn):
        turn.stream("half")
        try:
            await gate.pass_through()
        except asyncio.CancelledError:
            stopped.set()
            raise

    async with world.serving({"main": handler}):
        run = await world.router.send(SESSION, "x")
        await _reached(gate)
        await world.router.cancel(run, lease_lost=True)
        async with asyncio.timeout(40):
            await stopped.wait()
    assert world.router.failures == []
    assert world.session.log(SESSION).replies() == []


async def test_cancelling_keeps_the_partial_answer(world):
    gate = Gate()
    cancelled = []

    async def handler(turn):
        turn.stream("the first half")
        try:
            await gate.pass_through()
        finally:
            cancelled.append(turn.cancelled.is_set())

    async with world.serving({"main": handler}):
        run = await world.router.send(SESSION, "x")
        await _reached(gate)
        await world.router.cancel(run)
        await world.router.wait(run, "CANCELLED")
    event = world.session.log(SESSION).by_id[f"run/{run}/reply"]
    assert event.message.parts[0].text == "the first half"
    assert event.message.partial
    assert event.message.stop_reason == "aborted"
    assert world.router.failures[0].cancelled
    assert cancelled == [True]


async def test_cancelling_before_any_text_leaves_no_message(world):
    gate = Gate()

    async def handler(turn):
        await gate.pass_through()

    async with world.serving({"main": handler}):
        run = await world.router.send(SESSION, "x")
        await _reached(gate)
        await world.router.cancel(run)
        await world.router.wait(run, "CANCELLED")
    assert world.session.log(SESSION).replies() == []


async def test_a_cancellation_that_comes_while_the_reply_is_being_committed_comes_too_late(world):
    replying = asyncio.Event()

    async def handler(turn):
        replying.set()
        await turn.reply("all of it")

    async with world.serving({"main": handler}):
        world.session.gate.clear()
        run = await world.router.send(SESSION, "x")
        async with asyncio.timeout(40):
            await replying.wait()
        await world.router.cancel(run)
        await asyncio.sleep(0.05)
        world.session.gate.set()
        await world.router.wait(run, "SUCCEEDED")
    event = world.session.log(SESSION).by_id[f"run/{run}/reply"]
    assert not event.message.partial


async def test_a_handler_that_ignores_its_cancellation_does_not_hold_up_the_end(world):
    gate = Gate()
    late = asyncio.Event()

    async def handler(turn):
        turn.stream("half")
        while not gate.open.is_set():
            try:
                await gate.pass_through()
            except asyncio.CancelledError:
                continue
        try:
            await turn.reply("too late")
        except LeaseLost:
            late.set()

    async with world.serving({"main": handler}, stop_grace_s=0.1):
        run = await world.router.send(SESSION, "x")
        await _reached(gate)
        await world.router.cancel(run)
        await world.router.wait(run, "CANCELLED")
        gate.open.set()
        async with asyncio.timeout(40):
            await late.wait()
    assert world.session.log(SESSION).replies() == ["half"]


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
        await asyncio.sleep(0.1)
        if turn.attempt == 1:
            raise Retryable("again")

    async with world.serving({"main": handler}):
        run = await world.router.send(SESSION, "x")
        await world.router.wait(run, "SUCCEEDED")
    assert [(delta.text, delta.replace, delta.epoch) for delta in world.session.deltas] == [
        ("attempt 1", False, 1),
        ("attempt 2", True, 2),
    ]


async def test_a_broken_delta_stream_loses_no_text(world):
    gate = Gate()

    async def handler(turn):
        turn.stream("one ")
        await gate.pass_through()
        for word in ["two ", "three"]:
            turn.stream(word)
            await asyncio.sleep(0.3)

    async with world.serving({"main": handler}):
        run = await world.router.send(SESSION, "x")
        await _reached(gate)
        async with asyncio.timeout(40), world.session.changed:
            await world.session.changed.wait_for(lambda: world.session.deltas)
        world.session.cut_deltas()
        gate.open.set()
        await world.router.wait(run, "SUCCEEDED")
    assert world.session.text(run) == "one two three"
    assert world.session.log(SESSION).replies() == ["one two three"]


async def test_events_wait_for_a_session_service_that_is_away(world):
    async def handler(turn):
        return "ok"

    async with world.serving({"main": handler}):
        world.session.unavailable = True
        run = await world.router.send(SESSION, "x")
        await asyncio.sleep(0.3)
        world.session.unavailable = False
        message = await world.router.wait(run, "SUCCEEDED")
    assert message.attempts == 1


async def test_draining_lets_turns_end_and_takes_no_more(world):
    gate = Gate()

    async def handler(turn):
        await gate.pass_through()
        return "done"

    async with world.serving({"main": handler}) as worker:
        run = await world.router.send(SESSION, "x")
        await _reached(gate)
        worker.drain()
        await world.router.wait_until(lambda: any(frame.drain for frame in world.router.frames_read))
        waiting = await world.router.send("bots/main/sessions/other", "y")
        gate.open.set()
        await world.router.wait(run, "SUCCEEDED")
    assert world.router.messages[waiting].attempts == 0
    assert world.registry.reports[-1].leaving


async def test_draining_hands_back_what_does_not_end_in_time(world):
    gate = Gate()

    async def handler(turn):
        turn.stream("half")
        await gate.pass_through()

    async with world.serving({"main": handler}, grace_s=0.1) as worker:
        run = await world.router.send(SESSION, "x")
        await _reached(gate)
        worker.drain()
        await world.router.wait(run, "QUEUED")
    failure = world.router.failures[0]
    assert (failure.error.reason, failure.retryable, failure.cancelled) == ("WORKER_DRAINING", True, False)
    assert failure.HasField("retry_delay")
    assert failure.retry_delay.ToNanoseconds() == 0
    assert world.session.log(SESSION).replies() == []


async def test_a_worker_whose_name_was_taken_over_stops(world):
    gate = Gate()

    async def handler(turn):
        await gate.pass_through()

    world.add_bots("main")
    worker = Worker(world.dialer(), worker_id="w1", handlers={"main": handler})
    running = asyncio.ensure_future(worker.run())
    await world.router.wait_until(lambda: world.router.workers)
    run = await world.router.send(SESSION, "x")
    await _reached(gate)
    world.router.refuse_attach = errors.FailedPrecondition("replaced", reason="WORKER_REPLACED")
    world.router.cut()
    async with asyncio.timeout(40):
        with pytest.raises(WorkerReplaced):
            await running
    assert world.router.messages[run].attempts == 1
    assert world.router.failures == []


async def test_a_worker_with_a_wrong_token_ends_with_the_reason(world):
    world.add_bots("main")
    worker = Worker(world.dialer(token="wrong"), worker_id="w1", handlers={})
    async with asyncio.timeout(40):
        with pytest.raises(errors.Unauthenticated):
            await worker.run()


async def test_registration_is_repeated_until_the_registry_answers(world):
    async def handler(turn):
        return "ok"

    world.registry.unavailable_calls = 2
    async with world.serving({"main": handler}):
        await world.router.wait(await world.router.send(SESSION, "x"), "SUCCEEDED")
    assert len(world.registry.registrations) == 1


async def test_a_lost_registration_is_made_again_while_turns_go_on(world):
    async def handler(turn):
        return "ok"

    async with world.serving({"main": handler}):
        world.registry.lost_leases.add("lease-1")
        await world.registry.wait_until(lambda: len(world.registry.registrations) == 2)
        await world.router.wait(await world.router.send(SESSION, "x"), "SUCCEEDED")
    assert world.registry.reports[-1].lease_id == "lease-2"


async def test_reports_tell_what_every_bot_is_doing(world):
    gate = Gate()

    async def handler(turn):
        await gate.pass_through()
        return "ok"

    def load(bot):
        return [r.in_flight_count for report in world.registry.reports for r in report.bots if r.bot == bot]

    async with world.serving({"main": handler, "idle": handler}):
        run = await world.router.send(SESSION, "x")
        await world.registry.wait_until(lambda: load("bots/main") == [0, 1])
        gate.open.set()
        await world.router.wait(run, "SUCCEEDED")
        await world.registry.wait_until(lambda: load("bots/main") == [0, 1, 0])
    assert load("bots/idle") == [0]


async def test_a_drain_order_stops_new_work(world):
    async def handler(turn):
        return "ok"

    async with world.serving({"main": handler}):
        world.registry.order_drain = True
        await world.router.wait_until(lambda: any(frame.drain for frame in world.router.frames_read))
        run = await world.router.send(SESSION, "x")
    assert world.router.messages[run].attempts == 0


async def test_bots_can_be_served_and_withdrawn_while_the_worker_runs(world):
    async def handler(turn):
        return f"by {turn.bot.id}"

    async with world.serving({"main": handler}) as worker:
        world.add_bots("scout")
        worker.serve("scout", handler)
        run = await world.router.send("bots/scout/sessions/main", "x")
        await world.router.wait(run, "SUCCEEDED")
        worker.withdraw("main")
        await world.router.wait_until(lambda: world.router.workers[0].bots == {"bots/scout"})
        waiting = await world.router.send(SESSION, "x")
        assert world.router.messages[waiting].attempts == 0
    assert world.router.replies[run] == "by scout"


async def test_a_bot_that_does_not_exist_does_not_keep_the_others_from_being_served(world):
    async def handler(turn):
        return "ok"

    world.add_bots("main")
    worker = Worker(world.dialer(), worker_id="w1", handlers={"main": handler, "gone": handler})
    running = asyncio.ensure_future(worker.run())
    run = await world.router.send(SESSION, "x")
    await world.router.wait(run, "SUCCEEDED")
    worker.drain()
    await running
    assert list(world.registry.registrations[0].worker.bots) == ["bots/main"]


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


async def test_a_lease_is_extended_on_request(world):
    async def handler(turn):
        turn.heartbeat(lease_s=90)
        await asyncio.sleep(0.05)
        return "ok"

    async with world.serving({"main": handler}):
        run = await world.router.send(SESSION, "x")
        await world.router.wait(run, "SUCCEEDED")
    (extension,) = [extension for frame in world.router.frames_read for extension in frame.extensions]
    assert (extension.run, extension.epoch, extension.lease_duration.seconds) == (run, 1, 90)


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


async def test_what_arrives_while_a_worker_stops_goes_back_and_is_not_begun(world):
    begun = []

    async def handler(turn):
        begun.append(turn.run)
        return "ok"

    async with world.serving({"main": handler}) as worker:
        worker._runs.drain()
        run = await world.router.send("bots/main/sessions/inbox", "x")
        await world.router.wait_until(lambda: bool(world.router.failures))
    assert begun == []
    assert {failure.error.reason for failure in world.router.failures} == {"WORKER_DRAINING"}
    assert all(failure.retryable for failure in world.router.failures)
    assert world.router.failures[0].run == run
