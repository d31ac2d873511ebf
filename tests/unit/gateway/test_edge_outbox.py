"""What waits for a socket keeps its order, is bounded, and joins what it can."""

import asyncio
import json

import pytest

from gateway import frames
from gateway.outbox import Event, Goodbye, Outbox, SlowConsumer, StreamDelta


def delta(run, new, text, **more):
    head = {"runId": run, "sessionKey": "agent:main:a", "seq": 1}
    return StreamDelta(run, head, head, new, text, 7, **more)


def put_delta(outbox, piece):
    outbox.put_delta(piece, piece.to_payloads())


async def drain(outbox):
    out = []
    try:
        while True:
            async with asyncio.timeout(0.01):
                item = await outbox.take()
            out.append(item if isinstance(item, Goodbye) else json.loads(item))
    except TimeoutError:
        return out


async def test_frames_leave_in_the_order_they_came_and_events_are_numbered_without_gaps():
    outbox = Outbox(max_frames=10)
    outbox.put_event(Event("tick", b'{"ts":1}'))
    outbox.put_response(frames.response("1", b"{}"))
    put_delta(outbox, delta("r", "a", "a"))
    outbox.put_event(Event("tick", b'{"ts":2}', state_version=b'{"presence":1,"health":1}'))

    out = await drain(outbox)

    assert [frame.get("event") for frame in out] == ["tick", None, "agent", "chat", "tick"]
    assert [frame["seq"] for frame in out if "seq" in frame] == [1, 2, 3, 4]
    assert outbox.queued_bytes == 0


async def test_deltas_that_wait_are_joined_without_losing_text():
    outbox = Outbox(max_frames=3)
    for new, text in (("Gre", "Gre"), ("at ", "Great "), ("you", "Great you")):
        put_delta(outbox, delta("r", new, text))

    agent, chat = await drain(outbox)

    assert (chat["payload"]["deltaText"], chat["payload"]["message"]["content"][0]["text"]) == (
        "Great you",
        "Great you",
    )
    assert agent["payload"]["data"] == {"text": "Great you", "delta": "Great you"}
    assert outbox.queued_bytes == 0


async def test_a_delta_that_replaces_makes_the_joined_one_replace():
    outbox = Outbox(max_frames=3)
    put_delta(outbox, delta("r", "wrong", "wrong"))
    put_delta(outbox, delta("r", "right", "right", replace=True))
    put_delta(outbox, delta("r", " on", "right on"))

    _, chat = await drain(outbox)

    assert (chat["payload"]["deltaText"], chat["payload"]["replace"]) == ("right on", True)


async def test_nothing_of_a_run_overtakes_its_deltas():
    outbox = Outbox(max_frames=10)
    put_delta(outbox, delta("r", "a", "a"))
    put_delta(outbox, delta("other", "x", "x"))
    outbox.put_event(Event("session.message", b"{}", run_id="r"))
    put_delta(outbox, delta("r", "b", "b"))
    put_delta(outbox, delta("other", "y", "xy"))

    out = [frame for frame in await drain(outbox) if frame["event"] != "agent"]

    assert [(f["event"], f["payload"].get("deltaText")) for f in out] == [
        ("chat", "a"), ("chat", "xy"), ("session.message", None), ("chat", "b"),
    ]  # fmt: skip


async def test_a_socket_may_fall_behind_by_so_many_frames():
    outbox = Outbox(max_frames=2)
    outbox.put_event(Event("tick", b"{}"))
    outbox.put_event(Event("tick", b"{}"))

    with pytest.raises(SlowConsumer) as slow:
        outbox.put_event(Event("tick", b"{}"))

    assert slow.value.queued_frames == 2


async def test_a_socket_may_fall_behind_by_so_many_bytes():
    outbox = Outbox(max_frames=100, max_bytes=1000)
    outbox.put_event(Event("tick", b"x" * 500))

    with pytest.raises(SlowConsumer):
        outbox.put_event(Event("tick", b"x" * 500))


async def test_goodbye_comes_after_everything_else():
    outbox = Outbox(max_frames=10)
    outbox.put_event(Event("shutdown", b"{}"))
    outbox.put_goodbye(Goodbye(1012, "bye"))

    out = await drain(outbox)

    assert out[-1] == Goodbye(1012, "bye")
