"""Policy: who may message, spawn and read whom, and the record of it."""

import grpc.aio
import pytest
from family_world import running_family
from router_world import Worker, draft, send

from chassis.status import from_rpc_error
from mobot.router.v1 import message_pb2, router_service_pb2
from router_service.settings import RouterSettings

pb = router_service_pb2


@pytest.fixture(params=["local", "unix"])
async def world(request, sqlite_url, clock):
    settings = RouterSettings(bot_cache_s=0)
    async with running_family(sqlite_url, clock, over=request.param, settings=settings) as found:
        for name, owner, label in (
            ("main", "operators/a", "core"),
            ("other", "operators/a", "edge"),
            ("third", "operators/b", "edge"),
        ):
            bot = found.registry.bots[f"bots/{name}"].bot
            bot.owner = owner
            bot.labels["tier"] = label
        yield found


@pytest.fixture
def stub(world):
    return world.stub()


async def refusal(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value).reason


async def set_rules(stub, *rules):
    policy = (await stub.GetPolicy(pb.GetPolicyRequest())).policy
    del policy.rules[:]
    for actor, target, actions, allow in rules:
        policy.rules.add(actor=actor, target=target, actions=actions, allow=allow)
    return (await stub.SetPolicy(pb.SetPolicyRequest(policy=policy))).policy


async def entries(stub, **fields):
    found = (await stub.ListAuditEntries(pb.ListAuditEntriesRequest(**fields))).entries
    return [(e.actor, e.action, e.target, e.allowed) for e in found]


async def test_bots_of_one_owner_may_message_and_those_of_others_may_not(world):
    bot = world.stub(actor="bots/main")
    await send(bot, session="bots/other/sessions/a")
    assert await refusal(send(bot, session="bots/third/sessions/a")) == "POLICY_DENIED"
    assert await refusal(bot.AskMessage(pb.AskMessageRequest(message=draft(session="bots/third/sessions/a")))) == (
        "POLICY_DENIED"
    )


async def test_a_rule_opens_the_way_by_label_and_the_first_that_fits_decides(world, stub):
    bot = world.stub(actor="bots/main")
    await set_rules(
        stub,
        ("bots/main", "bots/other", ["send"], False),
        ("label:tier=core", "label:tier=edge", ["send", "spawn"], True),
    )
    await send(bot, session="bots/third/sessions/a")
    assert await refusal(send(bot, session="bots/other/sessions/a")) == "POLICY_DENIED"
    wish = message_pb2.Spawn(parent="bots/main/sessions/main", bot="bots/third")
    wish.task.add(text="x")
    assert (await bot.SpawnSession(pb.SpawnSessionRequest(spawn=wish))).created
    third = world.stub(actor="bots/third")
    assert await refusal(send(third, session="bots/main/sessions/a")) == "POLICY_DENIED"


async def test_a_denied_message_on_a_stream_is_refused_alone(world):
    bot = world.stub(actor="bots/main")
    call = bot.Send()
    frame = pb.SendRequest(first_number=1)
    frame.messages.extend([draft(session="bots/third/sessions/a"), draft(session="bots/other/sessions/a")])
    await call.write(frame)
    await call.read()
    outcomes = []
    while len(outcomes) < 2:
        outcomes.extend((await call.read()).outcomes)
    call.cancel()
    assert outcomes[0].refusal.reason == "POLICY_DENIED"
    assert outcomes[1].receipt.message


async def test_a_denied_outbox_refuses_the_completion(world, stub):
    worker = await Worker(stub).start()
    await send(stub)
    delivery = await worker.delivery()
    settled = await worker.complete(delivery, outbox=[draft(session="bots/third/sessions/a")])
    assert settled.refusal.reason == "POLICY_DENIED"
    assert not (await worker.complete(delivery)).HasField("refusal")


async def test_an_operator_may_speak_for_anybody_and_it_is_on_record(world, stub):
    await send(stub, session="bots/third/sessions/a", source="bots/main/sessions/a")
    assert await entries(stub) == [("operators/root", "inject", "bots/third/sessions/a", True)]


async def test_decisions_are_on_record_newest_first(world, stub):
    bot = world.stub(actor="bots/main")
    await send(bot, session="bots/other/sessions/a")
    await refusal(send(bot, session="bots/third/sessions/a"))
    await set_rules(stub, ("bots/*", "bots/*", ["send"], True))
    await send(bot, session="bots/third/sessions/a")
    expected = [
        ("bots/main", "send", "bots/third/sessions/a", True),
        ("operators/root", "policy", "policy", True),
        ("bots/main", "send", "bots/third/sessions/a", False),
        ("bots/main", "send", "bots/other/sessions/a", True),
    ]
    assert await entries(stub) == expected
    assert await entries(stub, actor="bots/main") == [expected[0], *expected[2:]]
    assert await entries(stub, target="bots/third") == [expected[0], expected[2]]
    found, token = [], ""
    while True:
        page = await stub.ListAuditEntries(pb.ListAuditEntriesRequest(page_size=1, page_token=token))
        found += page.entries
        token = page.next_page_token
        if not token:
            break
    assert [(e.actor, e.action, e.target, e.allowed) for e in found] == expected


async def test_a_policy_survives_a_restart_and_is_changed_by_whoever_read_it_last(world, stub):
    first = await set_rules(stub, ("bots/main", "bots/third", ["send"], True))
    await set_rules(stub, ("bots/main", "bots/third", ["send"], True), ("bots/*", "bots/*", ["spawn"], False))
    assert await refusal(stub.SetPolicy(pb.SetPolicyRequest(policy=first))) == "ETAG_MISMATCH"
    await world.restart()
    policy = (await world.stub().GetPolicy(pb.GetPolicyRequest())).policy
    assert [rule.allow for rule in policy.rules] == [True, False]
    await send(world.stub(actor="bots/main"), session="bots/third/sessions/a")


async def test_bots_neither_see_nor_set_the_policy(world):
    bot = world.stub(actor="bots/main")
    for call in (
        bot.GetPolicy(pb.GetPolicyRequest()),
        bot.SetPolicy(pb.SetPolicyRequest()),
        bot.ListAuditEntries(pb.ListAuditEntriesRequest()),
    ):
        assert await refusal(call) == "CALLER_NOT_ALLOWED"


@pytest.mark.parametrize(
    ("field", "rule"),
    [
        ("policy.rules[0].actor", ("main", "bots/main", ["send"], True)),
        ("policy.rules[0].target", ("bots/main", "label:tier", ["send"], True)),
        ("policy.rules[0].actions", ("bots/main", "bots/main", [], True)),
        ("policy.rules[0].actions", ("bots/main", "bots/main", ["eat"], True)),
    ],
)
async def test_a_rule_that_breaks_a_rule_is_refused_by_field(world, stub, field, rule):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await set_rules(stub, rule)
    assert from_rpc_error(caught.value).metadata["field"] == field


async def test_a_bot_reads_anothers_mail_only_by_a_rule(world, stub):
    receipt = await send(stub, session="bots/other/sessions/a")
    bot = world.stub(actor="bots/main")
    get = pb.GetMessageRequest(name=receipt.message)
    look = pb.ListMessagesRequest(filter=pb.MessageFilter(session="bots/other/sessions/a"))
    assert await refusal(bot.GetMessage(get)) == "MESSAGE_NOT_FOUND"
    assert not (await bot.ListMessages(look)).messages
    await set_rules(stub, ("bots/main", "bots/other", ["read"], True))
    assert (await bot.GetMessage(get)).message.name == receipt.message
    assert len((await bot.ListMessages(look)).messages) == 1
    assert ("bots/main", "read", "bots/other/sessions/a", True) in await entries(stub)


async def test_what_people_do_to_mail_is_on_record_once(world, stub):
    worker = await Worker(stub).start()
    receipt = await send(stub, max_attempts=1)
    await worker.fail(await worker.delivery(), retryable=True)
    redrive = pb.RedriveDeadLettersRequest(messages=[receipt.message], request_id="r")
    for _ in range(2):
        await stub.RedriveDeadLetters(redrive)
    again = await worker.delivery()
    await stub.CancelRun(pb.CancelRunRequest(run=again.message.run))
    await stub.CancelRun(pb.CancelRunRequest(run=receipt.run))
    found = (await stub.ListAuditEntries(pb.ListAuditEntriesRequest())).entries
    done = [(e.action, e.message) for e in found if e.action not in ("send", "inject")]
    assert done == [("cancel", again.message.name), ("redrive", receipt.message)]
