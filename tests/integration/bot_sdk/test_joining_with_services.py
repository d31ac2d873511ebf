"""Messages that are worked on in the turn of another one: the real SDK on the real router."""

import asyncio

from sdk_fakes.gate import Gate

from mobot.router.v1 import message_pb2, router_service_pb2
from mobot.session.v1 import event_pb2

DESK = "bots/main/sessions/desk"
ASKER = "bots/scout/sessions/asker"
STEER, COLLECT = message_pb2.BUSY_MODE_STEER, message_pb2.BUSY_MODE_COLLECT


class Host:
    """A bot whose turns wait at a gate, and answer what was said to them by then. `turns` has a line for each."""

    def __init__(self, *, takes=True):
        self.gate = Gate()
        self.steered = asyncio.Event()
        self.turns = []
        self._takes = takes

    async def __call__(self, turn):
        taken = turn.take_steering() if self._takes else []
        self.gate.reached.set()
        while not self.gate.open.is_set():
            taken += turn.take_steering() if self._takes else []
            if taken:
                self.steered.set()
            await asyncio.sleep(0.005)
        said = [turn.message.text, *(each.text for each in turn.collected), *taken]
        self.turns.append((turn.attempt, said))
        return " and ".join(said)

    async def until_steered(self):
        async with asyncio.timeout(40):
            await self.steered.wait()


async def bots(services):
    for bot in ("main", "scout"):
        await services.add_bot(bot)


async def busy(services, host):
    """A running turn; its run."""
    run = await services.send(DESK, "build")
    await host.gate.until_reached()
    return run


async def texts(services, session, role):
    events = await services.events(session)
    return [e.message.parts[0].text for e in events if e.HasField("message") and e.message.role == role]


async def test_a_steered_message_is_answered_by_the_running_turn_and_its_sender_hears_it(services, serving):
    await bots(services)
    host = Host()
    async with serving({"main": host}):
        run = await busy(services, host)
        steered = await services.send(DESK, "paint it", mode=STEER, reply_to=ASKER)
        await host.until_steered()
        host.gate.open.set()
        first, second = await services.wait(run), await services.wait(steered)
        assert (first.reply, second.reply) == ("build and paint it", "build and paint it")
        assert (await services.message(steered)).joined_run == run
        reply = await services.message(f"reply/{steered}")
        assert (reply.session, reply.draft.parts[0].text) == (ASKER, "build and paint it")
    assert host.turns == [(1, ["build", "paint it"])]
    assert await texts(services, DESK, event_pb2.ROLE_USER) == ["build", "paint it"]
    assert await texts(services, DESK, event_pb2.ROLE_ASSISTANT) == ["build and paint it"]


async def test_what_a_turn_does_not_take_in_has_a_turn_of_its_own(services, serving):
    await bots(services)
    host = Host(takes=False)
    async with serving({"main": host}):
        run = await busy(services, host)
        steered = await services.send(DESK, "paint it", mode=STEER)
        host.gate.open.set()
        assert (await services.wait(run)).reply == "build"
        assert (await services.wait(steered)).reply == "paint it"
        assert (await services.message(steered)).joined_run == ""
    assert await texts(services, DESK, event_pb2.ROLE_USER) == ["build", "paint it"]


async def test_what_had_joined_a_turn_is_answered_once_when_its_worker_dies(services, serving):
    await bots(services)
    host = Host()
    async with serving({"main": host}) as worker:
        run = await busy(services, host)
        steered = await services.send(DESK, "paint it", mode=STEER)
        await host.until_steered()
        await services.until_state(steered, "RUNNING")
        await worker.die()
    host.gate.open.set()
    async with serving({"main": host}):
        assert (await services.wait(run)).reply == "build and paint it"
        assert (await services.wait(steered)).reply == "build and paint it"
    assert host.turns == [(2, ["build", "paint it"])]
    assert await texts(services, DESK, event_pb2.ROLE_USER) == ["build", "paint it"]
    assert await texts(services, DESK, event_pb2.ROLE_ASSISTANT) == ["build and paint it"]


async def test_a_turn_answers_what_it_took_in_while_the_router_was_away(services, serving):
    await bots(services)
    host = Host()
    async with serving({"main": host}):
        run = await busy(services, host)
        steered = await services.send(DESK, "paint it", mode=STEER, reply_to=ASKER)
        await host.until_steered()
        await services.stop("router")
        host.gate.open.set()
        await services.start("router")
        assert (await services.wait(run)).reply == "build and paint it"
        assert (await services.wait(steered)).reply == "build and paint it"
        assert (await services.message(f"reply/{steered}")).session == ASKER
    assert host.turns == [(1, ["build", "paint it"])]
    assert await texts(services, DESK, event_pb2.ROLE_ASSISTANT) == ["build and paint it"]


async def test_to_cancel_a_turn_is_to_cancel_what_joined_it(services, serving):
    await bots(services)
    host = Host()
    async with serving({"main": host}):
        run = await busy(services, host)
        steered = await services.send(DESK, "paint it", mode=STEER)
        await host.until_steered()
        await services.until_state(steered, "RUNNING")
        await services.stubs.router.CancelRun(router_service_pb2.CancelRunRequest(run=run))
        assert [(await services.wait(each)).state for each in (run, steered)] == ["CANCELLED", "CANCELLED"]


async def test_messages_that_are_collected_share_a_turn_and_each_sender_hears_of_it(services, serving):
    await bots(services)
    host = Host()
    async with serving({"main": host}):
        run = await busy(services, host)
        collected = [await services.send(DESK, text, mode=COLLECT, reply_to=ASKER) for text in ("red", "blue", "green")]
        host.gate.open.set()
        assert (await services.wait(run)).reply == "build"
        answers = [(await services.wait(each)).reply for each in collected]
        assert answers == ["red and blue and green"] * 3
        replies = [await services.message(f"reply/{each}") for each in collected]
        assert [(reply.session, reply.draft.in_reply_to) for reply in replies] == [
            (ASKER, (await services.message(each)).name.removeprefix("messages/")) for each in collected
        ]
    assert host.turns == [(1, ["build"]), (1, ["red", "blue", "green"])]
    assert await texts(services, DESK, event_pb2.ROLE_USER) == ["build", "red", "blue", "green"]
    assert await texts(services, DESK, event_pb2.ROLE_ASSISTANT) == ["build", "red and blue and green"]
