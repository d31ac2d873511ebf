"""Which bots the runner hosts, live."""

import asyncio

import pytest
from sdk_fakes.world import World

from bot_runner.host import RunnerHost
from bot_runner.settings import RunnerSettings
from chassis import errors
from mobot.registry.v1 import bot_pb2

ECHO = bot_pb2.Brain(echo=bot_pb2.EchoBrain())


async def test_bots_that_come_and_go_are_served_and_withdrawn(world: World, hosting):
    async with hosting():
        world.registry.add_bot("main", brain=ECHO)
        run = await world.router.send("bots/main/sessions/a", "x")
        await world.router.wait(run, "SUCCEEDED")
        world.registry.add_bot("scout", brain=ECHO)
        await world.router.wait_until(lambda: world.router.workers[0].bots == {"bots/main", "bots/scout"})
        world.registry.remove_bot("bots/main")
        await world.router.wait_until(lambda: world.router.workers[0].bots == {"bots/scout"})


@pytest.mark.parametrize("change", [{"enabled": False}, {"suspended": True}, {"brain": "worker"}])
async def test_a_bot_that_is_not_ours_to_serve_is_left_alone(world: World, hosting, change):
    world.registry.add_bot("scout", brain=ECHO)
    bot = world.registry.add_bot("main", brain=ECHO)
    async with hosting():
        await world.router.wait_until(lambda: world.router.workers)
        changed = bot_pb2.Bot()
        changed.CopyFrom(bot)
        if "brain" in change:
            changed.brain.worker.SetInParent()
        else:
            changed.MergeFrom(bot_pb2.Bot(**change))
        world.registry.put_bot(changed)
        await world.router.wait_until(lambda: world.router.workers[0].bots == {"bots/scout"})


async def test_new_settings_count_from_the_next_turn_on(world: World, hosting):
    bot = world.registry.add_bot("main", brain=ECHO)
    async with hosting():
        changed = bot_pb2.Bot()
        changed.CopyFrom(bot)
        changed.display_name = "Renamed"
        world.registry.put_bot(changed)
        # Changes come in order: when this one is served, so is the one before it.
        world.registry.add_bot("scout", brain=ECHO)
        await world.router.wait_until(lambda: world.router.workers and len(world.router.workers[0].bots) == 2)
        run = await world.router.send("bots/main/sessions/a", "x")
        await world.router.wait(run, "SUCCEEDED")
    assert world.router.replies[run] == "Renamed here. You said: x"


async def test_the_watch_survives_a_restart_of_the_registry(world: World, hosting):
    world.registry.add_bot("main", brain=ECHO)
    async with hosting():
        await world.router.wait_until(lambda: world.router.workers)
        del world.registry.bots["bots/main"]
        world.registry.cut()
        world.registry.add_bot("scout", brain=ECHO)
        await world.router.wait_until(lambda: world.router.workers and world.router.workers[-1].bots == {"bots/scout"})


async def test_only_the_bots_named_are_watched(world: World, hosting):
    async with hosting(bots=("main",)):
        pass
    assert list(world.registry.watch_requests[0].filter.bots) == ["bots/main"]


async def test_a_bot_without_its_key_is_shown_as_failing(world: World, hosting):
    openai = bot_pb2.OpenaiBrain(base_url="http://127.0.0.1:9/v1", model="m", api_key_env="NO_SUCH_KEY_HERE")
    world.registry.add_bot("main", brain=bot_pb2.Brain(openai=openai))

    def told():
        return [bot for report in world.registry.reports for bot in report.bots if bot.bot == "bots/main"]

    async with hosting():
        await world.registry.wait_until(told)
        run = await world.router.send("bots/main/sessions/a", "x")
        message = await world.router.wait(run, "FAILED")
    assert told()[0].brain_health == bot_pb2.BRAIN_HEALTH_FAILING
    assert "NO_SUCH_KEY_HERE" in told()[0].detail
    assert message.last_error.reason == "MODEL_KEY_MISSING"


async def test_it_can_be_drained_before_the_registry_ever_answered(world: World):
    dialer = world.dialer("workers/runner")
    dialer._targets = dict.fromkeys(world.targets, "127.0.0.1:1")
    host = RunnerHost(dialer, RunnerSettings(worker_id="runner"), grace_s=0.1)
    running = asyncio.ensure_future(host.run())
    await asyncio.sleep(0.05)
    host.drain()
    async with asyncio.timeout(40):
        await running


async def test_a_runner_with_a_wrong_token_ends_with_the_reason(world: World):
    host = RunnerHost(world.dialer("workers/runner", token="wrong"), RunnerSettings(worker_id="runner"), grace_s=0.1)
    async with asyncio.timeout(40):
        with pytest.raises(errors.Unauthenticated):
            await host.run()


def test_the_workers_id_is_the_hosts_and_always_legal():
    assert RunnerSettings(worker_id="mine").worker() == "mine"
    assert RunnerSettings().worker().startswith("runner")
