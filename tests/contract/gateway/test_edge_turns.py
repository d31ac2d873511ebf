"""A turn as clients hear it: order, text, and exactly one end."""

import asyncio
import itertools

import pytest
from edge_client import Refused
from edge_upstream import text_part

from mobot.session.v1 import event_pb2, session_pb2

A = "agent:main:a"


async def send(client, text="hi", run="run-1", **more):
    return await client.call("chat.send", {"sessionKey": A, "message": text, "idempotencyKey": run, **more})


def story(client, run):
    """What was heard of a run, in order, as short words."""
    words = []
    for frame in client.frames:
        payload = frame.get("payload") or {}
        if frame["type"] == "res" and payload.get("runId") == run:
            words.append(f"res {payload['status']}")
        if frame["type"] != "event":
            continue
        message = payload.get("message") or {}
        if frame["event"] == "session.message" and message.get("__openclaw", {}).get("runId") == run:
            words.append(f"message {message['role']}")
        elif payload.get("runId") == run:
            kind = payload.get("state") or payload.get("stream") or payload.get("reason") or payload.get("phase")
            detail = payload["data"].get("phase", "") if frame["event"] == "agent" else ""
            words.append(f"{frame['event']} {kind} {detail}".strip())
    return words


async def test_a_message_is_acknowledged_streamed_and_ended_once(edge):
    async with edge.client() as client:
        await client.call("sessions.subscribe")
        ack = await send(client)
        final = await client.final("run-1")
        await client.event("sessions.changed", phase="end")

    assert ack == {"runId": "run-1", "status": "started"}
    assert final["state"] == "final"
    assert final["message"]["content"] == [{"type": "text", "text": "Hello from the bot."}]
    assert final["stopReason"] == "stop"
    deltas = client.events("chat", state="delta")
    assert "".join(delta["deltaText"] for delta in deltas) == "Hello from the bot."
    assert deltas[-1]["message"]["content"][0]["text"] == "Hello from the bot."
    assert len([e for e in client.events("chat", runId="run-1") if e["state"] == "final"]) == 1


async def test_the_order_is_the_one_clients_know(edge):
    async with edge.client() as client:
        await client.call("sessions.subscribe")
        edge.world.words = ("Hello.",)
        await send(client)
        await client.event("sessions.changed", phase="end")
        heard = story(client, "run-1")

    assert heard == [
        "res started",
        "sessions.changed send",
        "message user",
        "agent lifecycle start",
        "sessions.changed agent.run.started",
        "sessions.changed start",
        "chat status",
        "agent assistant",
        "chat delta",
        "message assistant",
        "agent lifecycle end",
        "chat final",
        "sessions.changed agent.input.settled",
        "sessions.changed end",
    ]


async def test_the_users_message_carries_the_key_it_was_sent_with(edge):
    async with edge.client() as client:
        await client.call("sessions.messages.subscribe", {"key": A})
        await send(client, "what is new?")
        await client.final("run-1")
        [user, bot] = client.events("session.message")
        history = await client.call("chat.history", {"sessionKey": A})

    assert (user["message"]["role"], user["message"]["content"]) == ("user", "what is new?")
    assert user["message"]["idempotencyKey"] == "run-1:user"
    assert user["senderIsOwner"] is True
    assert bot["message"]["provider"] == "mobot"
    assert [row["__openclaw"]["id"] for row in history["messages"]] == [user["messageId"], bot["messageId"]]
    assert history["messages"][0]["idempotencyKey"] == "run-1:user"


async def test_who_did_not_subscribe_hears_the_chat_but_not_the_log(edge):
    async with edge.client() as client, edge.client() as other:
        await client.call("sessions.messages.subscribe", {"key": "agent:main:other"})
        await send(other)
        await client.final("run-1")

    assert client.events("session.message") == client.events("sessions.changed") == []


async def test_one_socket_follows_the_messages_of_so_many_sessions_and_no_more(edge):
    async with edge.client() as client:
        await client.call("sessions.messages.subscribe", {"key": A})
        [connection] = edge.gateway.hub
        connection.message_keys.update(f"agent:main:s{number}" for number in range(19_999))
        error = await client.refusal("sessions.messages.subscribe", {"key": "agent:main:one-more"})
        assert error["code"] == "INVALID_REQUEST"
        assert "at most 20000 sessions; sessions.subscribe hears of all" in error["message"]
        await client.call("sessions.messages.subscribe", {"key": A})
        await client.call("sessions.messages.unsubscribe", {"key": "agent:main:s0"})
        await client.call("sessions.messages.subscribe", {"key": "agent:main:one-more"})


async def test_who_may_not_read_hears_nothing(edge):
    async with edge.client(scopes=[]) as deaf, edge.client() as client:
        await send(client)
        await client.final("run-1")

    assert [frame for frame in deaf.frames if frame.get("event") in ("chat", "agent")] == []


async def test_event_numbers_of_a_socket_have_no_gap(edge):
    async with edge.client() as client:
        await client.call("sessions.subscribe")
        await send(client)
        await client.event("sessions.changed", phase="end")
        numbers = [frame["seq"] for frame in client.frames if "seq" in frame]

    assert numbers == list(range(1, len(numbers) + 1))


async def test_the_same_key_again_is_never_a_second_run(edge):
    edge.world.answers = False
    async with edge.client() as client:
        first = await send(client)
        waiting = await send(client)
        other = await client.refusal("chat.send", {"sessionKey": A, "message": "other text", "idempotencyKey": "run-1"})
        message = edge.world.messages["run-1"]
        edge.world.start_turn(message)
        edge.world.finish(message, session_pb2.RUN_OUTCOME_SUCCEEDED)
        done = await send(client)
        edge.world.finish(message, session_pb2.RUN_OUTCOME_CANCELLED)
        aborted = await send(client)
        edge.world.finish(message, session_pb2.RUN_OUTCOME_FAILED)
        failed = await send(client)

    assert [answer["status"] for answer in (first, waiting, done, aborted, failed)] == [
        "started", "in_flight", "ok", "timeout", "error",
    ]  # fmt: skip
    assert (aborted["summary"], aborted["stopReason"]) == ("aborted", "rpc")
    assert other["details"]["reason"] == "idempotency-key-reused"
    assert len(edge.world.drafts) == 1


async def test_messages_sent_without_waiting_keep_their_order(edge):
    edge.world.answers = False
    async with edge.client() as client:
        ids = [
            await client.post("chat.send", {"sessionKey": A, "message": f"m{n}", "idempotencyKey": f"k{n}"})
            for n in range(200)
        ]
        for request_id in ids:
            await client.answer(request_id)

    assert [draft.parts[0].text for draft in edge.world.drafts] == [f"m{n}" for n in range(200)]


async def test_a_stopped_run_ends_as_aborted_with_what_it_had_said(edge):
    edge.world.words, edge.world.word_pause_s = ("word ",) * 500, 0.01
    async with edge.client() as client:
        await send(client)
        await client.event("chat", state="delta", nth=2)
        answer = await client.call("chat.abort", {"sessionKey": A, "runId": "run-1"})
        end = await client.final("run-1")
        nothing = await client.call("chat.abort", {"sessionKey": A})
        unknown = await client.call("chat.abort", {"sessionKey": A, "runId": "nope"})

    assert answer == {"ok": True, "aborted": True, "runIds": ["run-1"]}
    assert (end["state"], end["stopReason"]) == ("aborted", "rpc")
    assert end["message"]["content"][0]["text"].startswith("word word")
    assert nothing == unknown == {"ok": True, "aborted": False, "runIds": []}


async def test_stop_may_be_typed(edge):
    edge.world.words, edge.world.word_pause_s = ("word ",) * 500, 0.01
    async with edge.client() as client:
        await send(client)
        await client.event("chat", state="delta")
        await send(client, "/stop", run="stop-1")
        end, answer = await client.final("run-1"), await client.final("stop-1")

    assert end["state"] == "aborted"
    assert answer["message"]["content"][0]["text"] == "⚙️ Agent was aborted."


@pytest.mark.parametrize(
    ("outcome", "kind"), [("FAILED", "unknown"), ("DEAD_LETTERED", "unknown"), ("EXPIRED", "timeout")]
)
async def test_a_run_that_fails_ends_with_an_error(edge, outcome, kind):
    edge.world.answers = False
    async with edge.client() as client:
        await send(client)
        message = edge.world.messages["run-1"]
        edge.world.start_turn(message)
        value = session_pb2.RunOutcome.Value(f"RUN_OUTCOME_{outcome}")
        edge.world.finish(message, value, error_message="the model is on fire")
        end = await client.final("run-1")
        lifecycle = client.events("agent", stream="lifecycle")[-1]

    assert (end["state"], end["errorMessage"], end["errorKind"]) == ("error", "the model is on fire", kind)
    assert lifecycle["data"]["phase"] == "error"


async def test_a_retry_replaces_what_was_streamed(edge):
    edge.world.answers = False
    async with edge.client() as client:
        await send(client)
        message = edge.world.messages["run-1"]
        edge.world.start_turn(message)
        edge.world.delta(message.session, "run-1", 0, "first try")
        await client.event("chat", state="delta")
        edge.world.append(message.session, run="run-1", run_retrying=event_pb2.RunRetrying(attempt=1))
        edge.world.append(message.session, run="run-1", run_started=event_pb2.RunStarted(attempt=2))
        edge.world.delta(message.session, "run-1", 0, "second")
        await client.event("chat", state="delta", nth=2)
        edge.world.say(message, "second try")
        edge.world.finish(message, session_pb2.RUN_OUTCOME_SUCCEEDED)
        await client.final("run-1")
        deltas = client.events("chat", state="delta")

    assert [(d["deltaText"], d.get("replace", False)) for d in deltas] == [
        ("first try", False), ("second", True), (" try", False),
    ]  # fmt: skip
    assert deltas[-1]["message"]["content"][0]["text"] == "second try"


async def test_a_bot_that_does_not_stream_is_heard_all_the_same(edge):
    edge.world.answers = False
    async with edge.client() as client:
        await send(client)
        message = edge.world.messages["run-1"]
        edge.world.start_turn(message)
        edge.world.say(message, "all at once")
        edge.world.finish(message, session_pb2.RUN_OUTCOME_SUCCEEDED)
        await client.final("run-1")

    assert [delta["deltaText"] for delta in client.events("chat", state="delta")] == ["all at once"]
    assert client.events("agent", stream="assistant")[0]["data"] == {"text": "all at once", "delta": "all at once"}


async def test_tools_are_shown_to_clients_that_asked_for_them(edge):
    edge.world.answers = False
    async with edge.client(caps=["tool-events"]) as tooled, edge.client() as plain:
        await tooled.call("sessions.subscribe")
        await send(tooled)
        message = edge.world.messages["run-1"]
        edge.world.start_turn(message)
        called = event_pb2.ToolCalled(call_id="t1", tool="memory_search", arguments_json='{"query":"x"}')
        edge.world.append(message.session, run="run-1", tool_called=called)
        returned = event_pb2.ToolReturned(call_id="t1", tool="memory_search", parts=[text_part("found")])
        edge.world.append(message.session, run="run-1", tool_returned=returned)
        edge.world.finish(message, session_pb2.RUN_OUTCOME_SUCCEEDED)
        await tooled.final("run-1")
        await plain.final("run-1")
        history = await tooled.call("chat.history", {"sessionKey": A})

    start, result = tooled.events("agent", stream="tool")
    assert start["data"] == {"phase": "start", "name": "memory_search", "toolCallId": "t1", "args": {"query": "x"}}
    assert result["data"]["result"] == {"content": [{"type": "text", "text": "found"}]}
    assert plain.events("agent", stream="tool") == []
    assert [row["role"] for row in history["messages"]] == ["user", "assistant", "toolResult"]


async def test_an_injected_message_is_part_of_the_transcript(edge):
    async with edge.client() as client:
        answer = await client.call("chat.inject", {"sessionKey": A, "message": "by the way", "label": "note"})
        event = await client.event("chat", state="final")
        history = await client.call("chat.history", {"sessionKey": A})

    assert (event["runId"], event["seq"]) == (answer["messageId"], 0)
    assert history["messages"][0]["content"][0]["text"] == "[note]\n\nby the way"
    assert history["messages"][0]["model"] == "gateway-injected"


async def test_agent_answers_twice(edge):
    async with edge.client() as client:
        request = await client.post("agent", {"message": "hi", "sessionKey": A, "idempotencyKey": "ag-1"})
        accepted = await client.answer(request)
        done = await client.answer(request, nth=2)

    assert (accepted["runId"], accepted["sessionKey"], accepted["status"]) == ("ag-1", A, "accepted")
    assert (done["runId"], done["status"]) == ("ag-1", "ok")
    assert done["result"]["payloads"][0]["text"] == "Hello from the bot."


async def test_agent_answers_a_failure_with_an_error_and_its_run(edge):
    edge.world.answers = False
    async with edge.client() as client:
        request = await client.post("agent", {"message": "hi", "sessionKey": A, "idempotencyKey": "ag-1"})
        await client.answer(request)
        message = edge.world.messages["ag-1"]
        edge.world.start_turn(message)
        edge.world.finish(message, session_pb2.RUN_OUTCOME_FAILED, error_message="no model")
        with pytest.raises(Refused) as refused:
            await client.answer(request, nth=2)

    assert refused.value.error["message"] == "no model"
    assert refused.value.payload == {"runId": "ag-1", "status": "error", "summary": "no model"}


async def test_a_run_can_be_waited_for(edge):
    edge.world.answers = False
    async with edge.client() as client:
        unknown = await client.call("agent.wait", {"runId": "nope", "timeoutMs": 10})
        await send(client)
        early = await client.call("agent.wait", {"runId": "run-1", "timeoutMs": 0})
        waiting = await client.post("agent.wait", {"runId": "run-1", "timeoutMs": 5000})
        message = edge.world.messages["run-1"]
        edge.world.start_turn(message)
        edge.world.say(message, "done")
        edge.world.finish(message, session_pb2.RUN_OUTCOME_SUCCEEDED)
        done = await client.answer(waiting)

    assert unknown == {"runId": "nope", "status": "timeout"}
    assert early == {"runId": "run-1", "status": "timeout"}
    assert (done["status"], done["terminalReply"]) == ("ok", {"disposition": "visible", "text": "done"})
    assert done["endedAt"] >= done["startedAt"]


async def test_what_waits_and_what_runs_is_shown(edge):
    edge.world.answers = False
    async with edge.client() as client:
        await send(client)
        pending = await client.call("chat.history", {"sessionKey": A})
        message = edge.world.messages["run-1"]
        edge.world.start_turn(message)
        edge.world.delta(message.session, "run-1", 0, "so far")
        await client.event("chat", state="delta")
        running = await client.call("chat.startup", {"sessionKey": A, "limit": 80, "maxBytes": 262_144})

    [item] = pending["pendingInputs"]["items"]
    assert (item["runId"], item["state"], item["message"]["content"]) == ("run-1", "queued", "hi")
    assert running["inFlightRun"] == {"runId": "run-1", "text": "so far"}
    assert running["sessionInfo"]["activeRunIds"] == ["run-1"]
    assert running["metadata"]["models"][0]["available"] is True
    assert running["agentsList"]["agents"][0]["model"] == {"primary": "mobot/echo"}


async def test_an_answer_is_read_once_its_run_has_ended(edge):
    edge.world.answers = False
    async with edge.client() as client:
        await send(client)
        message = edge.world.messages["run-1"]
        edge.world.start_turn(message)
        edge.world.say(message, "done")
        # As a client that connects anew just now: the answer is still to come to it, with the end of the run.
        before = await client.call("chat.history", {"sessionKey": A})
        raw_before = await client.call("sessions.get", {"key": A})
        edge.world.finish(message, session_pb2.RUN_OUTCOME_SUCCEEDED)
        await client.final("run-1")
        raw_after = await client.call("sessions.get", {"key": A})
        since = await client.call("chat.history", {"sessionKey": A, "cursor": before["deltaCursor"]})
        after = await client.call("chat.history", {"sessionKey": A})

    assert [row["role"] for row in before["messages"]] == ["user"]
    assert (raw_before["messages"], raw_after["messages"]) == (before["messages"], after["messages"])
    assert before["totalMessages"] == 1
    assert before["inFlightRun"] == {"runId": "run-1", "text": "done"}
    assert [row["message"]["role"] for row in since["messages"]] == ["assistant"]
    assert [row["role"] for row in after["messages"]] == ["user", "assistant"]
    assert "inFlightRun" not in after


async def test_an_answer_that_is_held_back_takes_no_place_in_a_page(edge):
    async with edge.client() as client:
        for number in range(3):
            await send(client, run=f"k{number}")
            await client.final(f"k{number}")
        edge.world.answers = False
        await send(client, "last")
        message = edge.world.messages["run-1"]
        edge.world.start_turn(message)
        edge.world.say(message, "done")
        newest = await client.call("sessions.get", {"key": A, "limit": 1})
        pages, offset = [], 0
        while offset is not None:
            page = await client.call("chat.history", {"sessionKey": A, "limit": 2, "offset": offset})
            pages.insert(0, page["messages"])
            offset = page.get("nextOffset")

    rows = [row for page in pages for row in page]
    assert [row["content"] for row in newest["messages"]] == ["last"]
    assert [len(page) for page in pages] == [1, 2, 2, 2]
    assert len({row["__openclaw"]["id"] for row in rows}) == page["totalMessages"] == 7


async def test_pictures_travel_with_a_message(edge):
    attachment = {"type": "image", "mimeType": "image/png", "fileName": "a.png", "content": "aGVsbG8="}
    async with edge.client() as client:
        await send(client, "look", attachments=[attachment])
        await client.final("run-1")
        history = await client.call("chat.history", {"sessionKey": A})
        bad = await client.refusal(
            "chat.send", {"sessionKey": A, "message": "", "idempotencyKey": "x", "attachments": [{"content": "%"}]}
        )

    assert history["messages"][0]["content"] == [
        {"type": "text", "text": "look"},
        {"type": "image", "mimeType": "image/png", "data": "aGVsbG8="},
    ]
    assert bad["message"] == "at /attachments/0/content: must be base64 text"


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"message": "x", "idempotencyKey": "k"}, "must have required property 'sessionKey'"),
        ({"sessionKey": A, "idempotencyKey": "k"}, "must have required property 'message'"),
        ({"sessionKey": A, "message": "x"}, "must have required property 'idempotencyKey'"),
        ({"sessionKey": A, "message": "x", "idempotencyKey": ""}, "at /idempotencyKey: must not have fewer than"),
        ({"sessionKey": A, "message": "x", "idempotencyKey": "k" * 201}, "at /idempotencyKey: must not have more than"),
        ({"sessionKey": "k" * 513, "message": "x", "idempotencyKey": "k"}, "at /sessionKey: must not have more than"),
        ({"sessionKey": A, "message": 7, "idempotencyKey": "k"}, "at /message: must be string"),
        ({"sessionKey": A, "message": "", "idempotencyKey": "k"}, "message or attachment required"),
        ({"sessionKey": A, "message": "a\u0000b", "idempotencyKey": "k"}, "at /message: must not contain NUL"),
        ({"sessionKey": "agent:nosuch:x", "message": "x", "idempotencyKey": "k"}, 'Unknown agent id "nosuch"'),
    ],
)
async def test_a_message_that_cannot_be_sent_is_refused_with_the_reason(edge, params, message):
    async with edge.client() as client:
        refused = await client.refusal("chat.send", params)

    assert refused["code"] == "INVALID_REQUEST"
    assert message in refused["message"]
    assert edge.world.drafts == []


async def test_clients_of_protocol_three_hear_the_whole_message_in_each_delta(edge):
    client_2026_2 = {"id": "gateway-client", "mode": "ui", "version": "2026.2.9", "platform": "linux"}
    async with edge.client(client=client_2026_2, low=3, high=3) as client:
        await send(client)
        await client.final("run-1")

    texts = [delta["message"]["content"][0]["text"] for delta in client.events("chat", state="delta")]
    assert texts[-1] == "Hello from the bot."
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(texts))


async def test_small_questions_have_small_answers(edge):
    async with edge.client() as client:
        answers = {
            method: await client.call(method)
            for method in (
                "status", "models.list", "models.authStatus", "question.list", "exec.approval.list",
                "plugin.approval.list", "openclaw.approval.list", "taskSuggestions.list", "commands.list",
                "config.get", "sessions.groups.list", "chat.metadata", "system-presence",
            )
        }  # fmt: skip
        identity = await client.call("agent.identity.get", {"sessionKey": "agent:helper:x"})
        agents = await client.call("agents.list")
        unknown = await client.refusal("agent.identity.get", {"agentId": "nosuch"})

    assert answers["question.list"] == {"questions": []}
    assert answers["exec.approval.list"] == answers["plugin.approval.list"] == []
    assert answers["models.list"]["models"][0] | {"contextWindow": 0} == {
        "id": "echo", "name": "echo", "provider": "mobot", "contextWindow": 0, "reasoning": False, "available": True,
    }  # fmt: skip
    assert (identity["agentId"], identity["name"], identity["emoji"]) == ("helper", "Helper", "🤖")
    assert [agent["id"] for agent in agents["agents"]] == ["main", "helper"]
    assert unknown["message"] == 'Unknown agent id "nosuch"'


async def test_many_clients_hear_the_same_turn(edge):
    async with edge.client() as one, edge.client() as two, edge.client() as three:
        await send(one)
        finals = await asyncio.gather(*(client.final("run-1") for client in (one, two, three)))

    assert finals[0] == finals[1] == finals[2]
