"""What a worker does when streams break, leases are lost and people stop runs."""

import asyncio

from sdk_fakes.gate import Gate

from bot_sdk.errors import LeaseLost
from chassis import errors

SESSION = "bots/main/sessions/inbox"


async def test_a_broken_stream_in_the_middle_of_a_turn_changes_nothing_for_it(world):
    gate = Gate()
    started = []

    async def handler(turn):
        started.append(turn.attempt)
        await gate.pass_through()
        return "done"

    async with world.serving({"main": handler}):
        run = await world.router.send(SESSION, "x")
        await gate.until_reached()
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
        await gate.until_reached()
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
        await gate.until_reached()
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
        await gate.until_reached()
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
        await gate.until_reached()
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
        await gate.until_reached()
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
        await gate.until_reached()
        await world.router.cancel(run)
        await world.router.wait(run, "CANCELLED")
    assert world.session.log(SESSION).replies() == []


async def test_a_cancellation_that_comes_while_the_reply_is_being_committed_comes_too_late(world):
    turns = []

    async def handler(turn):
        turns.append(turn)
        await turn.reply("all of it")

    async with world.serving({"main": handler}):
        world.session.gate.clear()
        run = await world.router.send(SESSION, "x")
        await world.session.wait_until(lambda: world.session.held_calls)
        await world.router.cancel(run)
        async with asyncio.timeout(40):
            await turns[0].cancelled.wait()
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
        await gate.until_reached()
        await world.router.cancel(run)
        await world.router.wait(run, "CANCELLED")
        gate.open.set()
        async with asyncio.timeout(40):
            await late.wait()
    assert world.session.log(SESSION).replies() == ["half"]


async def test_a_broken_delta_stream_loses_no_text(world):
    gate = Gate()

    async def handler(turn):
        turn.stream("one ")
        await gate.pass_through()
        turn.stream("two ")
        await world.session.shown(turn.run, "one two ")
        turn.stream("three")
        await world.session.shown(turn.run, "one two three")

    async with world.serving({"main": handler}):
        run = await world.router.send(SESSION, "x")
        await gate.until_reached()
        await world.session.shown(run, "one ")
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
        await world.session.wait_until(lambda: world.session.refused_calls >= 2)
        world.session.unavailable = False
        message = await world.router.wait(run, "SUCCEEDED")
    assert message.attempts == 1


async def test_a_lease_is_extended_on_request(world):
    async def handler(turn):
        turn.heartbeat(lease_s=90)
        await world.router.wait_until(lambda: any(frame.extensions for frame in world.router.frames_read))
        return "ok"

    async with world.serving({"main": handler}):
        run = await world.router.send(SESSION, "x")
        await world.router.wait(run, "SUCCEEDED")
    (extension,) = [extension for frame in world.router.frames_read for extension in frame.extensions]
    assert (extension.run, extension.epoch, extension.lease_duration.seconds) == (run, 1, 90)
