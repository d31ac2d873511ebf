"""What a worker may do with a token of its own: act for the bots that it serves, and for no others."""

import asyncio

import grpc
import grpc.aio
import pytest

from bot_sdk.stubs import Stubs, acting_for
from bot_sdk.worker import Worker
from chassis import errors
from chassis.identity import mint_token
from mobot.memory.v1 import memory_service_pb2
from mobot.registry.v1 import registry_service_pb2
from mobot.router.v1 import message_pb2, router_service_pb2
from mobot.session.v1 import event_pb2, session_service_pb2

SECRET = "secret"
DESK = "bots/main/sessions/desk"
OTHER = "bots/other/sessions/den"


@pytest.fixture
def token_of(services):
    def token_of(principal):
        return services.dialer(None, token=mint_token(SECRET, principal))

    return token_of


async def code_of(call):
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


async def refused(call):
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value.code().name


async def test_a_worker_serves_its_bots_with_its_own_token_alone(services, serving, token_of):
    for bot in ("main", "other"):
        await services.add_bot(bot)
    done = {}

    async def handler(turn):
        if turn.message.type == "mobot.spawn.result":
            done["child"] = turn.text
            return None
        if turn.session.endswith("/child"):
            return "the child is done"
        turn.stream("one ")
        await turn.step("dice", lambda: asyncio.sleep(0, 6))
        await turn.memory.put("the sky is blue")
        done["recalled"] = [memory.text for memory in await turn.memory.search("sky")]
        done["sessions"] = [each.name for each in (await turn.sessions.list()).sessions]
        await turn.send("bots/other", "hello")
        await turn.spawn("work", key="child")
        return f"attempt {turn.attempt}"

    async with serving({"main": handler}, dialer=token_of("workers/w1")):
        assert await services.say(DESK, "work") == "attempt 1"
        async with asyncio.timeout(40):
            while "child" not in done:  # noqa: ASYNC110 - it changes elsewhere
                await asyncio.sleep(0.01)
    assert done["recalled"] == ["the sky is blue"]
    assert DESK in done["sessions"]
    assert done["child"] == "the child is done"
    reply = next(e for e in await services.events(DESK) if e.message.role == event_pb2.ROLE_ASSISTANT)
    # What it writes for its bots, many in one call, is written by them.
    assert (reply.actor, reply.message.source) == ("bots/main", "bots/main")


async def test_a_worker_reaches_nothing_of_a_bot_that_it_does_not_serve(services, serving, token_of):
    for bot in ("main", "other"):
        await services.add_bot(bot)
    await services.send(OTHER, "private")

    async def handler(turn):
        return "ok"

    dialer = token_of("workers/w1")
    async with serving({"main": handler}, dialer=dialer):
        stubs = Stubs(dialer)
        for metadata in (acting_for("bots/other"), ()):
            listed = router_service_pb2.ListMessagesRequest()
            assert await refused(stubs.router.ListMessages(listed, metadata=metadata)) == "PERMISSION_DENIED"
            events = session_service_pb2.ListEventsRequest(parent=OTHER)
            assert await refused(stubs.session.ListEvents(events, metadata=metadata)) == "PERMISSION_DENIED"
            memories = memory_service_pb2.ListMemoriesRequest(parent="bots/other")
            assert await refused(stubs.memory.ListMemories(memories, metadata=metadata)) == "PERMISSION_DENIED"
            policy = router_service_pb2.SetPolicyRequest()
            assert await refused(stubs.router.SetPolicy(policy, metadata=metadata)) == "PERMISSION_DENIED"
        bots = registry_service_pb2.ListBotsRequest()
        for actor in ("bots/other", "operators/root", "workers/w2", "services/router"):
            call = stubs.registry.ListBots(bots, metadata=acting_for(actor))
            assert await refused(call) == "PERMISSION_DENIED"
        assert (
            await refused(stubs.session.ListEvents(events, metadata=acting_for("operators/root")))
            == "PERMISSION_DENIED"
        )
        batch = session_service_pb2.BatchAppendEventsRequest()
        said = batch.appends.add(session=OTHER).events.add(id="forged")
        said.message.role = event_pb2.ROLE_ASSISTANT
        said.message.parts.add(text="I was never here")
        outcome = (await stubs.session.BatchAppendEvents(batch)).outcomes[0]
        assert outcome.refusal.reason == "SESSION_NOT_FOUND"


async def test_a_worker_gets_no_mail_of_a_bot_that_it_does_not_serve(services, token_of):
    for bot in ("main", "other"):
        await services.add_bot(bot)

    async def handler(turn):
        return "ok"

    dialer = token_of("workers/w1")
    worker = Worker(dialer, worker_id="w1", handlers={"main": handler}, grace_s=0.5)
    running = asyncio.create_task(worker.run())
    try:
        async with asyncio.timeout(40):
            await worker.registered()
        stubs = Stubs(dialer)
        pull = router_service_pb2.PullDeliveriesRequest(worker="workers/w1", bots=["bots/other"])
        assert await refused(stubs.router.PullDeliveries(pull)) == "PERMISSION_DENIED"
        call = stubs.router.Attach()
        hello = router_service_pb2.AttachHello(worker="workers/w1", bots=["bots/main", "bots/other"], credit=1)
        await call.write(router_service_pb2.AttachRequest(hello=hello))
        assert await refused(call.read()) == "PERMISSION_DENIED"
    finally:
        worker.drain()
        async with asyncio.timeout(40):
            await running


async def test_who_does_not_hold_a_run_cannot_say_how_it_ended(services, serving, token_of):
    for bot in ("main", "other"):
        await services.add_bot(bot)
    go_on = asyncio.Event()

    async def handler(turn):
        await go_on.wait()
        return "the real answer"

    async with serving({"main": handler}), serving({"other": handler}, worker_id="w2", dialer=token_of("workers/w2")):
        run = await services.send(DESK, "work")
        epoch = (await services.until_state(run, "RUNNING")).epoch
        completion = message_pb2.Completion(run=run, epoch=epoch)
        completion.reply.add(text="forged")
        request = router_service_pb2.CompleteDeliveryRequest(completion=completion)
        failure = router_service_pb2.FailDeliveryRequest(failure=message_pb2.Failure(run=run, epoch=epoch))
        for principal in ("workers/w2", "bots/other"):
            router = Stubs(token_of(principal)).router
            assert await refused(router.CompleteDelivery(request)) == "NOT_FOUND"
            assert await refused(router.FailDelivery(failure)) == "NOT_FOUND"
        go_on.set()
        assert (await services.wait(run)).reply == "the real answer"


async def test_a_bot_that_is_taken_from_a_worker_is_out_of_its_reach(services, serving, token_of):
    for bot in ("main", "other"):
        await services.add_bot(bot)

    async def handler(turn):
        return "ok"

    dialer = token_of("workers/w1")
    async with serving({"main": handler, "other": handler}, dialer=dialer) as worker:
        bots = registry_service_pb2.ListBotsRequest()
        registry = Stubs(dialer).registry
        await registry.ListBots(bots, metadata=acting_for("bots/other"))
        worker.withdraw("other")
        async with asyncio.timeout(40):
            while await code_of(registry.ListBots(bots, metadata=acting_for("bots/other"))) == "OK":  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert await refused(registry.ListBots(bots, metadata=acting_for("bots/other"))) == "PERMISSION_DENIED"
        await registry.ListBots(bots, metadata=acting_for("bots/main"))


async def test_a_bots_own_token_is_enough_for_a_worker_of_its_own(services, serving, token_of):
    await services.add_bot("main")

    async def handler(turn):
        await turn.memory.put("the sky is blue")
        return f"attempt {turn.attempt}"

    async with serving({"main": handler}, dialer=token_of("bots/main")):
        assert await services.say(DESK, "work") == "attempt 1"


async def test_a_worker_cannot_register_under_the_name_of_another(services, token_of):
    await services.add_bot("main")
    request = registry_service_pb2.RegisterWorkerRequest(worker_id="w1")
    request.worker.bots.append("bots/main")
    request.worker.contract_major_version = 1
    assert await refused(Stubs(token_of("workers/w2")).registry.RegisterWorker(request)) == "PERMISSION_DENIED"
    with pytest.raises(errors.PermissionDenied):
        await Worker(token_of("workers/w2"), worker_id="w1", handlers={"main": None}).run()
