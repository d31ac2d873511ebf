"""Messages that are handed to a running turn: answered by it, and only once the router knows."""

from sdk_fakes.gate import Gate
from sdk_fakes.steering import steered

SESSION = "bots/main/sessions/inbox"


class Host:
    """A turn that waits in the middle, and answers whatever was said to it by then."""

    def __init__(self):
        self.gate = Gate()
        self.taken = []

    async def __call__(self, turn):
        await self.gate.pass_through()
        self.taken += turn.take_steering()
        return f"{turn.text}, {', '.join(self.taken)}"


async def hand_over(world, host, *texts):
    """A running turn to which texts are handed; it goes on when they have arrived. Returns its run."""
    run = await world.router.send(SESSION, "build")
    await host.gate.until_reached()
    for number, text in enumerate(texts):
        await world.router.steer(run, text, f"s{number}")
    return run


async def told(world, *runs):
    """Waits until the router has heard these in the same frame as the step whose receipt is waited for."""

    def heard():
        return [f for f in world.router.frames_read if f.steps and {held.run for held in f.begun} >= set(runs)]

    await world.router.wait_until(heard)
    return len(heard())


async def test_the_reply_waits_until_the_router_has_what_the_turn_took_in(world):
    host = Host()
    async with world.serving({"main": host}) as worker:
        world.router.hold_receipts = True
        run = await hand_over(world, host, "and paint it")
        await steered(worker, run)
        host.gate.open.set()
        await told(world, "s0")
        assert world.session.log(SESSION).replies() == []
        world.router.hold_receipts = False
        world.router.cut()  # who heard no receipt says it again
        await world.router.wait(run, "SUCCEEDED")
        assert await told(world, "s0") == 2
    assert world.session.log(SESSION).replies() == ["build, and paint it"]


async def test_a_router_that_cannot_write_is_told_again_what_was_taken_in(world):
    host = Host()
    async with world.serving({"main": host}) as worker:
        world.router.unwritable = 1
        run = await hand_over(world, host, "and paint it", "red")
        await steered(worker, run, 2)
        host.gate.open.set()
        await world.router.wait(run, "SUCCEEDED")
        assert await told(world, "s0", "s1") == 2
    assert world.session.log(SESSION).replies() == ["build, and paint it, red"]


async def test_what_is_handed_over_twice_is_taken_in_once(world):
    host = Host()
    async with world.serving({"main": host}) as worker:
        run = await hand_over(world, host, "and paint it")
        await world.router.steer(run, "and paint it", "s0")
        await world.router.steer(run, "red", "s1")
        await steered(worker, run, 2)
        host.gate.open.set()
        await world.router.wait(run, "SUCCEEDED")
    assert world.session.log(SESSION).replies() == ["build, and paint it, red"]


async def test_a_result_that_the_router_could_not_write_is_given_again_over_the_same_stream(world):
    async def handler(turn):
        return "done"

    async with world.serving({"main": handler}):
        world.router.unwritable = 3
        run = await world.router.send(SESSION, "x")
        message = await world.router.wait(run, "SUCCEEDED")
        assert len(world.router.hellos) == 1
    assert message.attempts == 1
    assert world.session.log(SESSION).replies() == ["done"]
