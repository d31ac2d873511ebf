"""A turn from delivery to settlement, as the services see it."""

import asyncio

SESSION = "bots/main/sessions/inbox"


async def test_a_returned_text_is_the_committed_reply_and_completes_the_run(world):
    async def handler(turn):
        return f"you said {turn.text}"

    async with world.serving({"main": handler}):
        run = await world.router.send(SESSION, "hello")
        message = await world.router.wait(run, "SUCCEEDED")
    log = world.session.log(SESSION)
    assert log.kinds() == ["message", "run_started", "message", "run_finished"]
    assert log.replies() == ["you said hello"]
    assert log.events[2].id == f"run/{run}/reply"
    assert log.events[2].actor == "bots/main"
    assert world.router.replies[run] == "you said hello"
    assert message.attempts == 1


async def test_streamed_text_is_shown_in_pieces_and_becomes_the_reply(world):
    async def handler(turn):
        turn.stream("one ")
        await world.session.shown(turn.run, "one ")
        turn.stream("two ")
        turn.stream("three")
        await world.session.shown(turn.run, "one two three")

    async with world.serving({"main": handler}):
        run = await world.router.send(SESSION, "count")
        await world.router.wait(run, "SUCCEEDED")
    assert world.session.log(SESSION).replies() == ["one two three"]
    assert len(world.session.deltas) >= 2
    assert world.session.text(run) == "one two three"


async def test_a_quick_turn_costs_no_calls_but_the_shared_ones(world):
    async def handler(turn):
        return "ok"

    async with world.serving({"main": handler}):
        run = await world.router.send(SESSION, "hello")
        await world.router.wait(run, "SUCCEEDED")
    assert world.session.context_calls == 0
    assert world.session.deltas == []
    assert world.router.begun == []


async def test_a_long_turn_says_that_it_has_begun(world):
    release = asyncio.Event()

    async def handler(turn):
        await release.wait()
        return "ok"

    async with world.serving({"main": handler}):
        run = await world.router.send(SESSION, "hello")
        await world.router.wait_until(lambda: world.router.begun == [run])
        release.set()
        await world.router.wait(run, "SUCCEEDED")


async def test_messages_of_one_session_are_worked_on_in_order(world):
    seen = []

    async def handler(turn):
        seen.append(turn.text)
        return "ok"

    async with world.serving({"main": handler}):
        runs = [await world.router.send(SESSION, str(number)) for number in range(20)]
        await world.router.wait(runs[-1], "SUCCEEDED")
    assert seen == [str(number) for number in range(20)]


async def test_sessions_are_worked_on_side_by_side_up_to_the_credit(world):
    release = asyncio.Event()
    working = 0

    async def handler(turn):
        nonlocal working
        working += 1
        await release.wait()
        return "ok"

    async with world.serving({"main": handler}, concurrency=3):
        runs = [await world.router.send(f"bots/main/sessions/s{number}", "x") for number in range(6)]
        await world.router.wait_until(lambda: len(world.router.begun) == 3)
        assert working == 3
        release.set()
        for run in runs:
            await world.router.wait(run, "SUCCEEDED")
        assert world.router.workers[0].most_in_flight == 3


async def test_a_thousand_quick_messages_share_frames_and_batches(world):
    async def handler(turn):
        return "ok"

    sessions = [f"bots/main/sessions/s{number}" for number in range(1_000)]
    runs = [await world.router.send(session, "x") for session in sessions]
    async with world.serving({"main": handler}, concurrency=500):
        for run in runs:
            await world.router.wait(run, "SUCCEEDED", timeout_s=30)
    assert sum(world.session.batches) == 1_000
    assert len(world.session.batches) <= 100
    frames = [frame for frame in world.router.frames_read if frame.completions]
    assert len(frames) <= 200
    assert all(world.session.log(session).replies() == ["ok"] for session in sessions)


async def test_history_is_what_was_said_before_the_run(world):
    seen = []

    async def handler(turn):
        seen.append([(entry.role.value, entry.text) for entry in await turn.history()])
        return f"re {turn.text}"

    async with world.serving({"main": handler}):
        for text in ["a", "b"]:
            await world.router.wait(await world.router.send(SESSION, text), "SUCCEEDED")
    assert seen == [[], [("user", "a"), ("assistant", "re a")]]


async def test_a_message_before_the_reply_is_committed_on_its_own(world):
    async def handler(turn):
        turn.stream("let me see")
        await turn.say()
        turn.stream("done")

    async with world.serving({"main": handler}):
        run = await world.router.send(SESSION, "x")
        await world.router.wait(run, "SUCCEEDED")
    assert world.session.log(SESSION).replies() == ["let me see", "done"]


async def test_a_turn_knows_its_bot_and_its_message(world):
    seen = []

    async def handler(turn):
        seen.append((turn.bot.title, turn.message.user_input, turn.message.from_session, turn.attempt, turn.session))
        return "ok"

    async with world.serving({"main": handler}):
        await world.router.wait(await world.router.send(SESSION, "x"), "SUCCEEDED")
    assert seen == [("Main", True, False, 1, SESSION)]


async def test_mail_and_memory_are_the_bots_own(world):
    async def handler(turn):
        await turn.memory.put("the sky is blue", tags=["fact"])
        found = await turn.memory.search("sky")
        receipt = await turn.send("agent:scout:main", f"know: {found[0].text}")
        return receipt.run

    async with world.serving({"main": handler}):
        run = await world.router.send(SESSION, "x")
        await world.router.wait(run, "SUCCEEDED")
    sent = world.router.messages[world.router.replies[run]]
    assert sent.session == "bots/scout/sessions/main"
    assert sent.sender == "bots/main"
    assert sent.draft.source == SESSION
    assert sent.draft.hop_count == 1
    assert world.memory.memories[0].provenance.session == SESSION


async def test_asking_another_bot_gives_its_reply(world):
    async def main(turn):
        return "scout says: " + await turn.ask("bots/scout", "status?")

    async def scout(turn):
        assert turn.message.from_session
        return "all quiet"

    async with world.serving({"main": main, "scout": scout}):
        run = await world.router.send(SESSION, "x")
        await world.router.wait(run, "SUCCEEDED")
    assert world.router.replies[run] == "scout says: all quiet"
