"""Answers while they are being written: live only, whole on attach, void once the message is committed."""

import pytest
from session_world import append_to, create, finished, message, name, pb, started, watch

from mobot.session.v1 import event_pb2


def delta(text, offset, *, run="r1", session=None, epoch=1, **fields):
    return event_pb2.Delta(
        session=session or name("a"), run=run, offset=offset, text=text, epoch=epoch, kind=1, **fields
    )


class Publisher:
    """A worker's stream of deltas."""

    def __init__(self, stub) -> None:
        self.call = stub.PublishDeltas()

    async def send(self, *deltas) -> None:
        await self.call.write(pb.PublishDeltasRequest(deltas=deltas))

    async def finish(self) -> pb.PublishDeltasResponse:
        await self.call.done_writing()
        return await self.call


@pytest.fixture
async def running(stub):
    await create(stub, "a")
    await append_to(stub, name("a"), message("message/1", run="r1"), started("r1"), epoch=1)


def text_of(watcher) -> str:
    text = ""
    for piece in watcher.deltas:
        text = piece.text if piece.replace else text[: piece.offset] + piece.text
    return text


async def test_pieces_reach_those_who_asked_for_them(stub, running):
    asked = await watch(stub, include_deltas=True).caught_up()
    one = await watch(stub, name("a"), include_deltas=True, after_sequence=-1).caught_up()
    not_asked = await watch(stub).caught_up()
    publisher = Publisher(stub)
    await publisher.send(delta("Hel", 0))
    await publisher.send(delta("lo ", 3), delta("wörld", 6))
    for watcher in (asked, one):
        await watcher.until(lambda watcher: text_of(watcher) == "Hello wörld")
        assert not any(piece.replace for piece in watcher.deltas)
        assert (watcher.deltas[0].run, watcher.deltas[0].epoch, watcher.deltas[0].offset) == ("r1", 1, 0)
    done = await publisher.finish()
    assert (done.accepted_count, done.dropped_count) == (3, 0)
    await append_to(stub, name("a"), message("run/r1/reply", "Hello wörld", role=2, run="r1"))
    await not_asked.has(1)
    assert not_asked.deltas == []
    for watcher in (asked, one, not_asked):
        watcher.stop()


async def test_who_attaches_in_the_middle_gets_the_text_so_far(stub, running):
    first = await watch(stub, include_deltas=True).caught_up()
    publisher = Publisher(stub)
    await publisher.send(delta("The beginning", 0))
    await first.until(lambda watcher: text_of(watcher) == "The beginning")
    second = await watch(stub, include_deltas=True).until(lambda watcher: watcher.deltas)
    assert (second.deltas[0].text, second.deltas[0].offset, second.deltas[0].replace) == ("The beginning", 0, True)
    await publisher.send(delta(" and the end", 13))
    await second.until(lambda watcher: text_of(watcher) == "The beginning and the end")
    first.stop()
    second.stop()
    await publisher.finish()


async def test_a_committed_message_takes_the_texts_place(stub, running):
    watcher = await watch(stub, include_deltas=True).caught_up()
    publisher = Publisher(stub)
    await publisher.send(delta("Hello", 0))
    await watcher.until(lambda watcher: watcher.deltas)
    await append_to(stub, name("a"), message("run/r1/reply", "Hello!", role=2, run="r1"), epoch=1)
    await watcher.has(1)
    late = await watch(stub, include_deltas=True).caught_up()
    await publisher.send(delta("Next", 0, step=1))
    await late.until(lambda watcher: watcher.deltas)
    assert [piece.text for piece in late.deltas] == ["Next"]
    watcher.stop()
    late.stop()
    await publisher.finish()


async def test_stale_late_and_foreign_pieces_are_dropped(world, stub, running):
    await create(stub, "b", bot="helper")
    await append_to(stub, name("b", "helper"), started("r9"), epoch=1)
    publisher = Publisher(world.stub("bots/main"))
    await publisher.send(delta("old", 0, epoch=0))
    await publisher.send(delta("no such run", 0, run="r7"))
    await publisher.send(delta("no such session", 0, session=name("none")))
    await publisher.send(delta("not mine", 0, run="r9", session=name("b", "helper")))
    await publisher.send(delta("good", 0), delta("behind a gap", 9))
    done = await publisher.finish()
    assert (done.accepted_count, done.dropped_count) == (1, 5)
    await append_to(stub, name("a"), finished("r1"))
    publisher = Publisher(stub)
    await publisher.send(delta("too late", 0))
    done = await publisher.finish()
    assert (done.accepted_count, done.dropped_count) == (0, 1)


async def test_a_newer_attempt_writes_and_the_old_one_is_fenced_off(stub, running):
    watcher = await watch(stub, include_deltas=True).caught_up()
    old = Publisher(stub)
    await old.send(delta("first try", 0))
    await watcher.until(lambda watcher: watcher.deltas)
    await append_to(stub, name("a"), started("r1", 2), epoch=2)
    new = Publisher(stub)
    await new.send(delta("second", 0, epoch=2))
    await watcher.until(lambda watcher: watcher.deltas[-1].epoch == 2)
    await old.send(delta(" goes on", 9))
    assert (await old.finish()).dropped_count == 1
    assert (await new.finish()).accepted_count == 1
    watcher.stop()


async def test_a_text_that_begins_anew_replaces_the_old_one(stub, running):
    watcher = await watch(stub, include_deltas=True).caught_up()
    publisher = Publisher(stub)
    await publisher.send(delta("wrong", 0))
    await watcher.until(lambda watcher: watcher.deltas)
    await publisher.send(delta("right", 0, replace=True))
    await watcher.until(lambda watcher: text_of(watcher) == "right")
    assert watcher.deltas[-1].replace
    await publisher.finish()
    watcher.stop()


async def test_overlapping_pieces_are_joined(stub, running):
    watcher = await watch(stub, include_deltas=True).caught_up()
    publisher = Publisher(stub)
    await publisher.send(delta("Hello", 0), delta("lo wor", 3), delta("ld", 9))
    await publisher.finish()
    await watcher.until(lambda watcher: text_of(watcher) == "Hello world")
    watcher.stop()


async def test_pieces_of_an_answer_go_on_after_the_service_restarted(world, stub, running):
    publisher = Publisher(stub)
    await publisher.send(delta("Hello", 0))
    await publisher.finish()
    await world.restart()
    stub = world.stub()
    watcher = await watch(stub, include_deltas=True).caught_up()
    publisher = Publisher(stub)
    await publisher.send(delta(" world", 5))
    await watcher.until(lambda watcher: watcher.deltas)
    assert (watcher.deltas[0].offset, watcher.deltas[0].text, watcher.deltas[0].replace) == (5, " world", False)
    await publisher.finish()
    watcher.stop()
