"""What breaks behind or before the gateway, and what clients notice of it: as little as possible, and the truth."""

import asyncio
import contextlib
import json
import logging

import websockets
from edge_upstream import World

from chassis import errors
from mobot.session.v1 import session_pb2

A = "agent:main:a"


async def send(client, text="hi", run="run-1"):
    return await client.call("chat.send", {"sessionKey": A, "message": text, "idempotencyKey": run})


async def until(condition):
    async with asyncio.timeout(40):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.005)


async def test_a_broken_watch_is_resumed_without_a_hole_or_a_double(edge):
    edge.world.answers = False
    async with edge.client() as client:
        await client.call("sessions.subscribe")
        await send(client)
        message = edge.world.messages["run-1"]
        edge.world.start_turn(message)
        await client.event("chat", state="status")
        streams = edge.world.watch_streams
        edge.world.cut_watches()
        # These happen while nobody watches.
        edge.world.say(message, "while you were away")
        edge.world.finish(message, session_pb2.RUN_OUTCOME_SUCCEEDED)
        final = await client.final("run-1")
        await client.event("sessions.changed", phase="end")

    assert edge.world.watch_streams > streams
    assert final["message"]["content"][0]["text"] == "while you were away"
    assert [event["messageSeq"] for event in client.events("session.message")] == [2, 4]
    assert len([event for event in client.events("chat") if event["state"] == "final"]) == 1


async def test_a_watch_whose_token_is_refused_tells_clients_to_fetch_again(edge):
    async with edge.client() as client:
        await client.call("sessions.subscribe")
        edge.world.cut_watches(errors.InvalidArgument("too old", reason="WATCH_TOKEN_INVALID"))
        changed = await client.event("sessions.changed", reason="reset")
        await until(lambda: edge.world.watchers)
        await send(client)
        await client.final("run-1")

    assert "sessionKey" not in changed


async def test_a_run_that_began_before_the_gateway_ends_with_its_message(start_edge):
    world = World(answers=False)
    first = await start_edge(world)
    async with first.client() as client:
        await send(client)
    message = world.messages["run-1"]
    world.start_turn(message)
    world.say(message, "said before you came")
    second = await start_edge(world)
    async with second.client() as client:
        world.finish(message, session_pb2.RUN_OUTCOME_SUCCEEDED)
        final = await client.final("run-1")

    assert final["message"]["content"][0]["text"] == "said before you came"


async def test_mail_that_got_no_answer_is_sent_again_and_accepted_once(edge):
    edge.world.answers = False
    edge.world.send_breaks_after = 2
    async with edge.client() as client:
        ids = [
            await client.post("chat.send", {"sessionKey": A, "message": f"m{n}", "idempotencyKey": f"k{n}"})
            for n in range(6)
        ]
        for request_id in ids:
            await client.answer(request_id)

    assert edge.world.send_streams == 2
    assert [draft.parts[0].text for draft in edge.world.drafts] == [f"m{n}" for n in range(6)]


async def test_one_refused_message_of_a_batch_hinders_no_other(edge):
    edge.world.answers = False
    async with edge.client() as client:
        good = await client.post("chat.send", {"sessionKey": A, "message": "x", "idempotencyKey": "k1"})
        bad = await client.refusal(
            "chat.send", {"sessionKey": "agent:nosuch:a", "message": "x", "idempotencyKey": "k2"}
        )
        also_good = await client.post("chat.send", {"sessionKey": A, "message": "y", "idempotencyKey": "k3"})
        answers = [await client.answer(request) for request in (good, also_good)]

    assert bad["details"]["reason"] == "bot-not-found"
    assert [answer["status"] for answer in answers] == ["started", "started"]


async def test_a_service_that_is_away_is_said_to_be_away(edge):
    await edge.hosts["session"].drain()
    async with edge.client() as client:
        refused = await client.refusal("sessions.describe", {"key": "a"})
        ready = await client.call("models.list")

    assert (refused["code"], refused["retryable"]) == ("UNAVAILABLE", True)
    assert ready["models"]


async def test_a_defect_behind_the_gateway_tells_the_client_nothing_of_itself(edge):
    async def explode(*_):
        raise ValueError("secret detail")

    edge.gateway.services.sessions.ResolveSession = explode
    async with edge.client() as client:
        refused = await client.refusal("sessions.resolve", {"key": "a"})
        alive = await client.call("models.list")

    assert refused["code"] == "UNAVAILABLE"
    assert refused["message"] == "internal error"
    assert "secret" not in json.dumps(refused)
    assert alive


async def test_malformed_frames_are_answered_and_the_socket_lives_on(edge):
    async with edge.client() as client:
        for text in ("{", "[]", '{"type":"req"}', '{"type":"req","id":"x"}', '{"type":"res","id":"x","ok":true}'):
            await client.socket.send(text)
        await client.socket.send(b'{"type":"req","id":"binary","method":"models.list"}')
        await client.answer("binary")
        errors_heard = [frame for frame in client.frames if frame["type"] == "res" and not frame["ok"]]

    assert [frame["id"] for frame in errors_heard] == ["invalid", "invalid", "invalid", "x", "x"]
    assert {frame["error"]["code"] for frame in errors_heard} == {"INVALID_REQUEST"}


async def test_a_frame_beyond_the_limit_closes_the_socket(edge):
    async with edge.client() as client:
        with contextlib.suppress(websockets.ConnectionClosed):
            await client.socket.send('{"x":"' + "x" * 26_300_000 + '"}')
        await client.socket.wait_closed()

    assert client.socket.close_code == 1009


async def test_a_client_that_does_not_read_is_closed_and_logged(start_edge, caplog):
    edge = await start_edge(gateway_max_queued_frames=64)
    caplog.set_level(logging.WARNING)
    async with websockets.connect(edge.url, compression=None, max_queue=1) as socket:
        connect = {
            "minProtocol": 4, "maxProtocol": 4, "scopes": ["operator.read"], "auth": {"token": "secret"},
            "client": {"id": "cli", "mode": "cli", "version": "1", "platform": "linux"},
        }  # fmt: skip
        await socket.send(json.dumps({"type": "req", "id": "1", "method": "connect", "params": connect}))
        await until(lambda: len(edge.gateway.hub) == 1)
        async with edge.client() as lively:
            edge.world.words = ("x" * 200_000,)
            number = 0
            while len(edge.gateway.hub) > 1:
                number += 1
                await send(lively, run=f"r{number}")
                await lively.final(f"r{number}")
        with contextlib.suppress(websockets.ConnectionClosed):
            while True:
                await socket.recv()

    assert (socket.close_code, socket.close_reason) == (1008, "slow consumer")
    assert any(record.getMessage() == "slow consumer closed" for record in caplog.records)


async def test_at_shutdown_clients_are_told_and_sent_away(edge):
    async with edge.client() as client:
        await send(client)
        await client.final("run-1")
        await edge.gateway.drain()
        shutdown = await client.event("shutdown")
        await client.socket.wait_closed()

    assert shutdown["reason"] == "service restart"
    assert client.socket.close_code == 1012


async def test_ticks_come_as_often_as_promised(start_edge):
    edge = await start_edge(gateway_tick_interval_s=0.05)
    async with edge.client() as client:
        await client.event("tick", nth=3)

    assert client.hello["policy"]["tickIntervalMs"] == 50


async def test_who_is_there_is_told_to_everybody(edge):
    async with edge.client() as one:
        async with edge.client(client={"id": "openclaw-tui", "mode": "ui", "version": "9", "platform": "linux"}):
            await one.until(lambda _: [e for e in one.events("presence") if len(e["presence"]) == 3])
        presence = await one.call("system-presence")
        await one.until(lambda _: [e for e in one.events("presence")[1:] if len(e["presence"]) == 2])

    assert [entry["mode"] for entry in presence] == ["gateway", "cli"]


async def test_our_clients_resume_their_events_where_they_stopped(edge):
    edge.world.answers = False
    async with edge.client() as client:
        listed = await client.call("sessions.list")
        await client.call("mobot.watch", {"after": listed["watchToken"]})
        await send(client)
        message = edge.world.messages["run-1"]
        edge.world.start_turn(message)
        await client.until(
            lambda _: [i for e in client.events("mobot.event") for i in e["items"] if i.get("sequence") == 3]
        )
        token = [event["token"] for event in client.events("mobot.event") if event["token"]][-1]
    edge.world.say(message, "away")
    edge.world.finish(message, session_pb2.RUN_OUTCOME_SUCCEEDED)
    async with edge.client() as client:
        await client.call("mobot.watch", {"after": token})
        items = await client.until(
            lambda _: [i for e in client.events("mobot.event") for i in e["items"]
                       if i["event"] == "chat" and i["payload"]["state"] == "final"]
        )  # fmt: skip
        sequences = [i["sequence"] for e in client.events("mobot.event") for i in e["items"] if "sequence" in i]
        ended = await client.call("mobot.unwatch")

    assert items[0]["payload"]["message"]["content"][0]["text"] == "away"
    assert sequences[0] == 4
    assert sequences == sorted(sequences)
    assert ended == {"watching": False, "ended": True}


async def test_a_useless_resume_token_is_said_to_be_useless(edge):
    async with edge.client() as client:
        await client.call("mobot.watch", {"after": "?"})
        event = await client.event("mobot.event")

    assert event["error"]["reason"] == "watch-token-invalid"


async def test_more_requests_than_are_worked_on_at_once_wait_their_turn(start_edge):
    edge = await start_edge(gateway_max_requests_per_socket=2)
    edge.world.answers = False
    async with edge.client() as client:
        await send(client)
        slow = [await client.post("agent.wait", {"runId": "run-1", "timeoutMs": 300}) for _ in range(2)]
        quick = await client.post("models.list")
        await client.answer(quick)
        done = [frame["id"] for frame in client.frames if frame["type"] == "res"]

    assert done.index(quick) > min(done.index(request) for request in slow if request in done)
