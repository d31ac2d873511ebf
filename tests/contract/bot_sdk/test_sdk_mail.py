"""Mail as a turn sends it: asked, deferred, spawned, steered, collected, skipped."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from sdk_fakes.steering import steered

from bot_sdk.errors import NoReply, Retryable
from chassis import errors
from mobot.router.v1 import message_pb2
from mobot.session.v1 import part_pb2

SESSION = "bots/main/sessions/inbox"


async def run_of(world, handlers, text="x", state="SUCCEEDED", **fields):
    async with world.serving(handlers):
        run = await world.router.send(SESSION, text, **fields)
        return await world.router.wait(run, state)


async def test_a_late_reply_comes_as_a_message(world):
    heard = asyncio.Event()
    release = asyncio.Event()
    texts = []

    async def main(turn):
        if turn.message.from_session:
            texts.append(turn.text)
            heard.set()
            return None
        with pytest.raises(NoReply) as missing:
            await turn.ask("bots/scout", "status?", timeout_s=0.05)
        assert not missing.value.result.done
        release.set()
        return "gave up waiting"

    async def scout(turn):
        await release.wait()
        return "all quiet"

    async with world.serving({"main": main, "scout": scout}):
        await world.router.send(SESSION, "x")
        async with asyncio.timeout(40):
            await heard.wait()
    assert texts == ["all quiet"]


async def test_a_reply_in_time_is_no_mail(world):
    async def main(turn):
        return await turn.ask("bots/scout", "status?")

    async def scout(turn):
        return "all quiet"

    message = await run_of(world, {"main": main, "scout": scout})
    assert world.router.replies[message.run] == "all quiet"
    assert not [draft for draft in world.router.drafts if draft.session == SESSION and draft.source]


async def test_a_repeated_run_asks_the_same_question_once(world):
    async def main(turn):
        said = await turn.ask("bots/scout", "status?")
        if turn.attempt == 1:
            raise Retryable("dies after the answer")
        return said

    async def scout(turn):
        return "all quiet"

    message = await run_of(world, {"main": main, "scout": scout})
    assert message.attempts == 2
    assert len({d.idempotency_key for d in world.router.drafts if d.bot == "bots/scout"}) == 1
    assert len([m for m in world.router.messages.values() if m.session == "bots/scout/sessions/main"]) == 1


async def test_mail_for_later_is_the_same_mail_in_every_attempt(world):
    async def main(turn):
        if turn.text == "look again":
            return None
        await turn.defer("look again", after_s=3_600)
        await turn.send("bots/scout", "soon", expire_s=60, priority=3, mode="collect")
        if turn.attempt == 1:
            raise Retryable("dies after sending")
        return "ok"

    before = datetime.now(UTC)
    await run_of(world, {"main": main})
    later = [draft for draft in world.router.drafts if draft.HasField("not_before_time")]
    soon = [draft for draft in world.router.drafts if draft.HasField("expire_time")]
    assert [len(later), len(soon)] == [2, 2]
    assert later[0] == later[1]
    assert soon[0] == soon[1]
    assert later[0].session == SESSION
    assert later[0].not_before_time.ToDatetime(UTC) >= before + timedelta(seconds=3_599)
    assert (soon[0].priority, soon[0].mode) == (3, message_pb2.BUSY_MODE_COLLECT)


async def test_a_child_is_spawned_once_and_its_result_comes_as_a_message(world):
    heard = []
    done = asyncio.Event()

    async def main(turn):
        if turn.message.from_session:
            heard.append((turn.message.source, turn.text))
            done.set()
            return None
        spawned = await turn.spawn("add up", key="thread:sums", label="Sums", bot="bots/scout", if_exists="use")
        if turn.attempt == 1:
            raise Retryable("dies after spawning")
        return spawned.receipt.session

    async def scout(turn):
        return "42"

    async with world.serving({"main": main, "scout": scout}):
        run = await world.router.send(SESSION, "x")
        await world.router.wait(run, "SUCCEEDED")
        async with asyncio.timeout(40):
            await done.wait()
    child = "bots/scout/sessions/thread:sums"
    assert world.router.replies[run] == child
    assert heard == [(child, "42")]
    assert len({request.request_id for request in world.router.spawns}) == 1
    spawn = world.router.spawns[0].spawn
    assert (spawn.parent, spawn.session.label, spawn.announce) == (SESSION, "Sums", True)
    assert spawn.conflict_policy == message_pb2.SPAWN_CONFLICT_POLICY_USE_EXISTING


async def test_a_child_that_exists_is_an_error_unless_it_may_be_used(world):
    async def main(turn):
        await turn.spawn("one", key="a")
        with pytest.raises(errors.FailedPrecondition) as refused:
            await turn.spawn("two", key="a")
        assert refused.value.reason == "SESSION_ALREADY_EXISTS"
        with pytest.raises(errors.InvalidArgument):
            await turn.spawn("three", key="a", if_exists="perhaps")
        return "ok"

    await run_of(world, {"main": main})


async def test_what_is_said_into_a_turn_is_taken_in_once_and_the_router_hears_of_it(world):
    taken = asyncio.Event()
    begun = asyncio.Event()

    async def main(turn):
        begun.set()
        await taken.wait()
        return " and ".join(turn.take_steering() + turn.take_steering())

    async with world.serving({"main": main}) as worker:
        run = await world.router.send(SESSION, "x")
        async with asyncio.timeout(40):
            await begun.wait()
        await world.router.wait_until(lambda: run in world.router.begun)
        await world.router.steer(run, "hurry", "steered-1")
        await world.router.steer(run, "please", "steered-2")
        await steered(worker, run, 2)
        taken.set()
        await world.router.wait(run, "SUCCEEDED")
        await world.router.wait_until(lambda: {"steered-1", "steered-2"} <= set(world.router.begun))
    assert world.router.replies[run] == "hurry and please"


async def test_collected_messages_are_one_text(world):
    extra = message_pb2.Message(run="second")
    extra.draft.parts.append(part_pb2.Part(text="and this"))
    world.router.collect = [extra]

    async def main(turn):
        return f"{turn.text!r} of {1 + len(turn.collected)}"

    message = await run_of(world, {"main": main}, "this")
    assert world.router.replies[message.run] == "'this\\n\\nand this' of 2"


async def test_a_turn_may_end_without_a_reply(world):
    async def main(turn):
        turn.stream("thank you too")
        turn.skip_reply()

    message = await run_of(world, {"main": main})
    (completion,) = [c for frame in world.router.frames_read for c in frame.completions]
    assert (completion.stop_reason, len(completion.reply)) == ("skip", 0)
    assert world.session.log(SESSION).replies() == []
    assert message.attempts == 1


async def test_enclosed_mail_leaves_with_the_completion_only(world):
    async def main(turn):
        turn.enclose("bots/scout", "done", key=turn.key("note"), type_="note", metadata={"a": "b"})
        if turn.attempt == 1:
            raise Retryable("not yet")
        return "ok"

    await run_of(world, {"main": main})
    sent = [draft for draft in world.router.drafts if draft.bot == "bots/scout"]
    assert [(draft.type, dict(draft.metadata), draft.source) for draft in sent] == [("note", {"a": "b"}, SESSION)]


async def test_a_bot_knows_the_others_and_its_own_mailbox(world):
    async def main(turn):
        names = sorted(bot.profile.id for bot in await turn.bots.list())
        mailbox = await turn.mail.mailbox(turn.session)
        return f"{names} {mailbox.in_flight}"

    world.add_bots("scout")
    message = await run_of(world, {"main": main})
    assert world.router.replies[message.run] == "['main', 'scout'] 1"


async def test_a_run_is_stopped_by_who_started_it(world):
    begun = asyncio.Event()

    async def main(turn):
        receipt = await turn.send("bots/scout", "work for ever")
        await begun.wait()
        return ", ".join(await turn.mail.cancel(receipt.run, reason="enough"))

    async def scout(turn):
        begun.set()
        await asyncio.Event().wait()

    async with world.serving({"main": main, "scout": scout}):
        run = await world.router.send(SESSION, "x")
        await world.router.wait(run, "SUCCEEDED")
        await world.router.wait(world.router.replies[run], "CANCELLED")
