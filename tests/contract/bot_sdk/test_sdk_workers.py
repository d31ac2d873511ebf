"""What a worker does from its registration to its drain, and which bots it serves meanwhile."""

import asyncio

import pytest
from sdk_fakes.gate import Gate

from bot_sdk.errors import WorkerReplaced
from bot_sdk.worker import Worker
from chassis import errors

SESSION = "bots/main/sessions/inbox"


async def test_draining_lets_turns_end_and_takes_no_more(world):
    gate = Gate()

    async def handler(turn):
        await gate.pass_through()
        return "done"

    async with world.serving({"main": handler}) as worker:
        run = await world.router.send(SESSION, "x")
        await gate.until_reached()
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
        await gate.until_reached()
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
    await gate.until_reached()
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


async def test_short_turns_cost_the_registry_nothing(world, monkeypatch):
    monkeypatch.setattr("bot_sdk.registration.LOAD_LASTS_S", 3_600.0)  # every turn is short beside it

    async def handler(turn):
        return "ok"

    async with world.serving({"main": handler}) as worker:
        for number in range(3):
            await world.router.wait(await world.router.send(SESSION, f"{number}"), "SUCCEEDED")
        world.registry.add_bot("scout")
        worker.serve("scout", handler)
        await world.registry.wait_until(lambda: any(report.served_bots.bots for report in world.registry.reports))
        told = [list(report.bots) for report in world.registry.reports]
    assert [bot.bot for bots in told for bot in bots] == ["bots/main", "bots/scout"]


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
