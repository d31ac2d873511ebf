"""Watching: snapshot, replay, live; each event once and in order, from any token, also across a restart."""

import asyncio
import re

import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration
from session_world import Watcher, World, append_to, create, finished, message, name, pb, refusal, started, watch

from chassis.status import from_rpc_error
from mobot.session.v1 import session_pb2


async def test_a_watch_of_all_begins_now_and_sees_what_follows(stub):
    await create(stub, "a")
    watcher = await watch(stub).caught_up()
    assert watcher.events == []
    await append_to(stub, name("a"), message("m1"))
    await create(stub, "b", bot="helper")
    await watcher.has(2)
    assert [(event.session, event.id) for event in watcher.events] == [
        (name("a"), "m1"),
        (name("b", "helper"), "session/1"),
    ]
    assert watcher.events[0].message.parts[0].text == "hello"
    watcher.stop()


async def test_a_watch_of_one_session_replays_from_a_sequence(stub):
    await create(stub, "a")
    await append_to(stub, name("a"), *(message(f"m{n}") for n in range(5)))
    await append_to(stub, name("a"), message("m5"))
    whole = await watch(stub, name("a")).caught_up()
    assert [event.sequence for event in whole.events] == [1, 2, 3, 4, 5, 6, 7]
    tail = await watch(stub, name("a"), after_sequence=4).caught_up()
    assert [event.sequence for event in tail.events] == [5, 6, 7]
    end = await watch(stub, name("a"), after_sequence=7).caught_up()
    now = await watch(stub, name("a"), after_sequence=-1).caught_up()
    assert end.events == now.events == []
    await append_to(stub, name("a"), message("m6"))
    for watcher in (whole, tail, end, now):
        await watcher.until(lambda watcher: watcher.events and watcher.events[-1].id == "m6")
        watcher.stop()


async def test_every_token_continues_where_it_was_given_also_after_a_restart(world, stub):
    for session_id in ("a", "b", "c"):
        await create(stub, session_id)
    watcher = await watch(stub).caught_up()
    tokens = [(watcher.token, 0)]
    for number in range(6):
        await append_to(stub, name("abc"[number % 3]), message(f"m{number}"))
        await watcher.has(number + 1)
        tokens.append((watcher.token, number + 1))
    await world.restart()
    stub = world.stub()
    for token, seen in tokens:
        again = await watch(stub, resume_token=token).caught_up()
        assert again.ids() == [f"m{number}" for number in range(seen, 6)]
        again.stop()


async def test_tokens_within_a_long_replay_continue_it(stub):
    await create(stub, "a")
    for start in range(0, 600, 200):
        await append_to(stub, name("a"), *(message(f"m{n}") for n in range(start, start + 200)))
    watcher = watch(stub, name("a"))
    await watcher.has(1)
    first = list(watcher.events)
    assert len(first) < 601
    watcher.stop()
    rest = await watch(stub, name("a"), resume_token=watcher.token).caught_up()
    rest.stop()
    assert [event.sequence for event in first + rest.events] == list(range(1, 602))


async def test_large_events_come_in_frames_that_fit(stub):
    await create(stub, "a")
    live = await watch(stub).caught_up()
    text = "x" * 900_000
    for number in range(12):
        await append_to(stub, name("a"), message(f"m{number}", text))
    replayed = await watch(stub, name("a"), after_sequence=1).has(12)
    await live.has(12)
    for watcher in (live, replayed):
        assert watcher.ids() == [f"m{number}" for number in range(12)]
        assert max(frame.ByteSize() for frame in watcher.frames) < 6 * 1024 * 1024
        watcher.stop()


async def test_a_list_and_a_watch_from_its_token_leave_no_hole(stub):
    await create(stub, "a")
    listed = await stub.ListSessions(pb.ListSessionsRequest())
    history = await stub.ListEvents(pb.ListEventsRequest(parent=name("a")))
    await append_to(stub, name("a"), message("m1"))
    for watcher in (watch(stub, resume_token=listed.as_of), watch(stub, name("a"), resume_token=history.as_of)):
        await watcher.caught_up()
        assert watcher.ids() == ["m1"]
        watcher.stop()


@pytest.mark.parametrize("of_one", [True, False])
async def test_appending_at_the_same_time_shows_each_event_once_and_in_order(stub, of_one):
    await create(stub, "a")
    total = 400

    async def write():
        for start in range(0, total, 8):
            await append_to(stub, name("a"), *(message(f"m{n}") for n in range(start, start + 8)))

    async def read():
        names = [name("a")] if of_one else []
        watcher = watch(stub, *names, **({"after_sequence": 1} if of_one else {"resume_token": as_of}))
        await watcher.has(total)
        watcher.stop()
        return watcher

    as_of = (await stub.ListSessions(pb.ListSessionsRequest())).as_of
    writing = asyncio.create_task(write())
    watchers = await asyncio.gather(*(read() for _ in range(4)))
    await writing
    for watcher in watchers:
        assert [event.sequence for event in watcher.events] == list(range(2, total + 2))


async def test_many_sessions_are_watched_and_others_are_not_seen(stub):
    for session_id in "abc":
        await create(stub, session_id)
    watcher = await watch(stub, name("a"), name("b"), after_sequence=0).caught_up()
    for session_id in "cba":
        await append_to(stub, name(session_id), message("m1"))
    await watcher.has(2)
    assert [event.session for event in watcher.events] == [name("b"), name("a")]
    watcher.stop()
    again = await watch(stub, name("b"), name("a"), resume_token=watcher.frames[0].resume_token).caught_up()
    assert [event.session for event in again.events] == [name("b"), name("a")]
    again.stop()


async def test_a_watch_is_narrowed_by_bot_and_kind(stub):
    await create(stub, "a")
    await create(stub, "b", bot="helper")
    of_helper = await watch(stub, filter=pb.SessionFilter(bots=["bots/helper"])).caught_up()
    runs = await watch(stub, kinds=["run_started", "run_finished"]).caught_up()
    token = runs.token
    for session in (name("a"), name("b", "helper")):
        await append_to(stub, session, message("m1"), started("r1"))
        await append_to(stub, session, finished("r1"))
    await of_helper.has(3)
    assert {event.session for event in of_helper.events} == {name("b", "helper")}
    await runs.has(4)
    assert {event.WhichOneof("payload") for event in runs.events} == {"run_started", "run_finished"}
    again = await watch(stub, kinds=["run_finished", "run_started"], resume_token=token).caught_up()
    assert again.ids() == runs.ids()
    for watcher in (of_helper, runs, again):
        watcher.stop()


async def test_a_bot_watches_its_own_sessions_only(world, stub):
    await create(stub, "a")
    await create(stub, "b", bot="helper")
    watcher = await watch(world.stub("bots/main"), include_snapshot=True).caught_up()
    await append_to(stub, name("b", "helper"), message("m1"))
    await append_to(stub, name("a"), message("m2"))
    await watcher.has(1)
    assert watcher.ids() == ["m2"]
    assert [session.name for session in watcher.sessions] == [name("a")]
    watcher.stop()


async def test_a_snapshot_comes_before_any_event_and_is_marked_at_its_end(stub):
    await create(stub, "a")
    await create(stub, "b")
    await create(stub, "gone")
    await stub.DeleteSession(pb.DeleteSessionRequest(name=name("gone")))
    everything = await watch(stub, include_snapshot=True).caught_up()
    assert [session.name for session in everything.sessions] == [name("a"), name("b")]
    assert everything.frames[0].checkpoint
    one = await watch(stub, name("b"), include_snapshot=True, after_sequence=0).caught_up()
    assert [session.name for session in one.sessions] == [name("b")]
    assert list(one.frames[0].events) == []
    assert one.ids() == ["session/1"]
    everything.stop()
    one.stop()


async def test_sessions_come_along_with_events_that_change_them(stub):
    await create(stub, "a")
    watcher = await watch(stub, include_sessions=True).caught_up()
    await append_to(stub, name("a"), message("m1"), started("r1"))
    await watcher.until(lambda watcher: watcher.sessions)
    assert watcher.sessions[-1].status == session_pb2.SESSION_STATUS_RUNNING
    await stub.UpdateSession(pb.UpdateSessionRequest(session=session_pb2.Session(name=name("a"), label="A")))
    await watcher.until(lambda watcher: len(watcher.sessions) > 1)
    assert watcher.sessions[-1].label == "A"
    await append_to(stub, name("a"), message("m2"))
    await watcher.has(4)
    assert len(watcher.sessions) == 2
    replayed = await watch(stub, resume_token=watcher.frames[0].resume_token, include_sessions=True).caught_up()
    assert replayed.sessions[-1].label == "A"
    watcher.stop()
    replayed.stop()


async def test_a_silent_watch_gets_checkpoints_that_move_on(stub):
    await create(stub, "quiet")
    await create(stub, "loud")
    quiet = await watch(stub, name("quiet"), after_sequence=-1, checkpoint_interval=Duration(seconds=1)).caught_up()
    await append_to(stub, name("loud"), message("m1"))
    frame = await quiet.next()
    assert frame.checkpoint
    assert frame.resume_token != quiet.frames[0].resume_token
    quiet.stop()


async def test_tokens_are_checked(stub):
    await create(stub, "a")
    await create(stub, "b")
    watcher = await watch(stub, name("a")).caught_up()
    watcher.stop()
    token = watcher.token
    damaged = ("A" if token[5] != "A" else "B").join((token[:5], token[6:]))
    for request in (
        pb.WatchEventsRequest(resume_token="nonsense"),
        pb.WatchEventsRequest(sessions=[name("a")], resume_token=damaged),
        pb.WatchEventsRequest(sessions=[name("b")], resume_token=token),
        pb.WatchEventsRequest(resume_token=token),
        pb.WatchEventsRequest(sessions=[name("a")], kinds=["message"], resume_token=token),
    ):
        error = await refusal(stub.WatchEvents(request).read())
        assert (error.code, error.reason) == ("INVALID_ARGUMENT", "WATCH_TOKEN_INVALID")


async def test_tokens_from_the_future_are_refused_when_a_copy_of_the_store_was_put_back(world, tmp_path):
    await create(world.stub(), "a")
    await world.stop()
    kept = {path: path.read_bytes() for path in tmp_path.glob("store.sqlite3*")}
    await world.start()
    stub = world.stub()
    then = (await stub.ListSessions(pb.ListSessionsRequest())).as_of
    await append_to(stub, name("a"), message("gone"))
    watchers = [await watch(stub).caught_up(), await watch(stub, name("a")).caught_up()]
    tokens = [watcher.token for watcher in watchers]
    for watcher in watchers:
        watcher.stop()
    listed = (await stub.ListSessions(pb.ListSessionsRequest())).as_of
    await world.stop()
    for path in tmp_path.glob("store.sqlite3*"):
        path.unlink()
    for path, data in kept.items():
        path.write_bytes(data)
    await world.start()
    stub = world.stub()
    for request in (
        pb.WatchEventsRequest(resume_token=tokens[0]),
        pb.WatchEventsRequest(sessions=[name("a")], resume_token=tokens[1]),
        pb.WatchEventsRequest(resume_token=listed),
    ):
        error = await refusal(stub.WatchEvents(request).read())
        assert (error.code, error.reason) == ("INVALID_ARGUMENT", "WATCH_TOKEN_INVALID")
    assert (await watch(stub, resume_token=then).caught_up()).events == []


async def test_a_token_of_another_store_is_refused(stub, tmp_path):
    await create(stub, "a")
    watcher = await watch(stub).caught_up()
    watcher.stop()
    other = World(f"sqlite:///{tmp_path / 'other.sqlite3'}", data_dir=tmp_path)
    await other.start()
    error = await refusal(other.stub().WatchEvents(pb.WatchEventsRequest(resume_token=watcher.token)).read())
    assert error.reason == "WATCH_TOKEN_INVALID"
    await other.stop()


@pytest.mark.parametrize(
    "request_",
    [
        pb.WatchEventsRequest(after_sequence=3),
        pb.WatchEventsRequest(sessions=[name("a")], after_sequence=-2),
        pb.WatchEventsRequest(sessions=[name("a")], after_sequence=99),
        pb.WatchEventsRequest(filter=pb.SessionFilter(group="x")),
        pb.WatchEventsRequest(checkpoint_interval=Duration(nanos=1000)),
        pb.WatchEventsRequest(kinds=["nonsense"]),
    ],
)
async def test_watches_that_make_no_sense_are_refused(stub, request_):
    await create(stub, "a")
    error = await refusal(stub.WatchEvents(request_).read())
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "FIELD_INVALID")


async def test_a_watch_of_a_missing_session_is_refused(stub):
    error = await refusal(stub.WatchEvents(pb.WatchEventsRequest(sessions=[name("none")])).read())
    assert (error.code, error.reason) == ("NOT_FOUND", "SESSION_NOT_FOUND")


async def test_the_drain_ends_watches_and_delta_streams_with_a_reason(world, stub):
    await create(stub, "a")
    watcher = await watch(stub).caught_up()
    publishing = stub.PublishDeltas()
    await publishing.write(pb.PublishDeltasRequest())
    await world.host.announce_drain()
    for waiting in (watcher.next(), _result(publishing)):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await waiting
        error = from_rpc_error(raised.value)
        assert (error.code, error.reason) == ("UNAVAILABLE", "DRAINING")


async def _result(call):
    return await call


async def test_a_watcher_that_reads_slowly_is_served_from_the_log_and_misses_nothing(sqlite_url, tmp_path):
    world = World(sqlite_url, data_dir=tmp_path, watch_queue_events=10)
    await world.start()
    stub = world.stub()
    await create(stub, "a")
    slow = await watch(stub).caught_up()
    for number in range(200):
        await append_to(stub, name("a"), message(f"m{number}"))
    await slow.has(200)
    assert slow.ids() == [f"m{number}" for number in range(200)]
    slow.stop()
    await world.stop()


async def test_a_watcher_that_stopped_reading_is_closed_and_resumes_with_its_last_token(sqlite_url, tmp_path):
    world = World(sqlite_url, data_dir=tmp_path, slow_after_s=0.05, slow_events=50, watch_queue_events=10)
    await world.start()
    stub = world.stub()
    await create(stub, "a")
    slow = await watch(stub).caught_up()
    for number in range(150):
        await append_to(stub, name("a"), message(f"m{number}"))
    await asyncio.sleep(0.1)
    error = await _end_of(slow)
    assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "SLOW_CONSUMER")
    assert re.fullmatch(r"\d+", error.metadata["queued"])
    again = watch(stub, resume_token=slow.token)
    await again.until(lambda watcher: len(slow.events) + len(watcher.events) >= 150)
    assert slow.ids() + again.ids() == [f"m{number}" for number in range(150)]
    again.stop()
    await world.stop()


async def _end_of(watcher: Watcher):
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await watcher.until(lambda _: False)
    return from_rpc_error(raised.value)
