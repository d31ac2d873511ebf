"""The main job with real processes: the stock command line, a recording client, two bots, mail between sessions."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from client import Client, connected, text_of
from harness import Mobot
from session_log import events_of, runs_finished, texts
from stock import StockClient

from mobot.session.v1 import event_pb2

pytestmark = pytest.mark.e2e


@pytest.fixture
async def client(mobot: Mobot) -> AsyncIterator[Client]:
    async with connected(mobot.url, mobot.token, watching=True) as opened:
        yield opened


async def in_thread(stock: StockClient, method: str, **params: object) -> Any:
    """A stock call beside a client that goes on listening."""
    return await asyncio.to_thread(stock.call, method, **params)


async def test_the_stock_client_sees_both_demo_bots(stock: StockClient) -> None:
    answer = await in_thread(stock, "agents.list")
    assert [agent["id"] for agent in answer["agents"]] == ["main", "scout"]
    assert answer["defaultId"] == "main"


async def test_the_stock_client_finds_the_gateway_healthy(stock: StockClient) -> None:
    answer = await in_thread(stock, "health")
    assert answer["ok"] is True


async def test_a_session_lives_from_create_to_delete_through_the_stock_client(stock: StockClient) -> None:
    key = f"agent:main:budget-{uuid.uuid4()}"
    created = await in_thread(stock, "sessions.create", key=key, label=f"Budget {key[-6:]}")
    assert (created["key"], created["created"]) == (key, True)

    again = await in_thread(stock, "sessions.create", key=key)
    assert (again["sessionId"], again["created"]) == (created["sessionId"], False)

    patched = await in_thread(stock, "sessions.patch", key=key, label=f"Plans {key[-6:]}", pinned=True)
    assert patched["entry"]["label"] == f"Plans {key[-6:]}"

    listed = await in_thread(stock, "sessions.list", agentId="main")
    (row,) = [row for row in listed["sessions"] if row["key"] == key]
    assert (row["label"], row["pinned"]) == (f"Plans {key[-6:]}", True)

    reset = await in_thread(stock, "sessions.reset", key=key)
    assert reset["ok"] is True

    deleted = await in_thread(stock, "sessions.delete", key=key)
    assert deleted["deleted"] is True
    listed = await in_thread(stock, "sessions.list", agentId="main")
    assert key not in [row["key"] for row in listed["sessions"]]


async def test_a_persistent_session_refuses_the_stock_clients_reset(stock: StockClient) -> None:
    key = f"agent:main:kept-{uuid.uuid4()}"
    await in_thread(stock, "sessions.create", key=key, label=f"Kept {key[-6:]}", persistent=True)
    refused = await asyncio.to_thread(stock.try_call, "sessions.reset", key=key)
    assert refused.code != 0
    assert "Cannot reset persistent session" in refused.said
    assert "Traceback" not in refused.said
    described = await in_thread(stock, "sessions.describe", key=key)
    assert described["session"]["persistent"] is True


async def test_a_message_of_the_stock_client_is_answered_and_stays_in_the_history(
    stock: StockClient, client: Client
) -> None:
    key, run = f"agent:main:talk-{uuid.uuid4()}", str(uuid.uuid4())
    ack = await in_thread(stock, "chat.send", sessionKey=key, message="hello there", idempotencyKey=run)
    assert ack["runId"] == run
    assert ack["status"] == "started"

    end = await client.ended(run)
    assert end["state"] == "final"

    history = await in_thread(stock, "chat.history", sessionKey=key)
    assert [(message["role"], text_of(message)) for message in history["messages"]] == [
        ("user", "hello there"),
        ("assistant", "Mo here. You said: hello there"),
    ]
    again = await in_thread(stock, "chat.send", sessionKey=key, message="hello there", idempotencyKey=run)
    assert (again["runId"], again["status"]) == (run, "ok")


async def test_an_answer_streams_as_deltas_that_add_up_to_the_final_message(mobot: Mobot, client: Client) -> None:
    key, run = f"agent:main:stream-{uuid.uuid4()}", str(uuid.uuid4())
    async with connected(mobot.url, mobot.token) as plain:
        await plain.send(key, "count 20", run)
        (end,) = await plain.until(lambda: plain.ends(run))
        deltas = [
            each.payload
            for each in plain.plain
            if each.event == "chat" and each.payload.get("runId") == run and each.payload["state"] == "delta"
        ]
    said = " ".join(str(number) for number in range(1, 21))
    assert text_of(end["message"]) == said
    assert len(deltas) > 3, "streamed, not sent at once"
    assert "".join(delta["deltaText"] for delta in deltas) == said
    assert text_of(deltas[-1]["message"]) == said
    seqs = [each.payload["seq"] for each in plain.plain if each.payload.get("runId") == run and "seq" in each.payload]
    assert seqs == sorted(seqs)


async def test_mail_from_one_bot_arrives_in_the_others_session_and_is_answered_there(
    mobot: Mobot, stock: StockClient, client: Client
) -> None:
    key, run, word = "agent:main:main", str(uuid.uuid4()), f"hello-{uuid.uuid4()}"
    await in_thread(stock, "chat.send", sessionKey=key, message=f"send scout: {word}", idempotencyKey=run)
    end = await client.ended(run)
    assert "Sent to agent:scout:main" in text_of(end["message"])

    def answered() -> list[dict[str, Any]]:
        return [
            each.payload
            for each in client.watched
            if each.event == "session.message"
            and each.payload["sessionKey"] == "agent:scout:main"
            and each.payload["message"]["role"] == "assistant"
            and word in text_of(each.payload["message"])
        ]

    await client.until(answered)
    history = await in_thread(stock, "chat.history", sessionKey="agent:scout:main")
    mine = [(message["role"], text_of(message)) for message in history["messages"] if word in text_of(message)]
    assert [role for role, _ in mine] == ["user", "assistant"]
    assert mine[1][1].startswith("Scout here.")
    log = events_of(mobot, "bots/scout/sessions/main")
    (received,) = [e for e in log if word in "".join(p.text for p in e.message.parts) and e.message.role == 1]
    assert received.message.source == "bots/main/sessions/main"
    assert received.message.inter_session


async def test_a_bot_that_asks_another_gets_its_reply(client: Client) -> None:
    run, word = str(uuid.uuid4()), f"question-{uuid.uuid4()}"
    await client.send(f"agent:main:asking-{uuid.uuid4()}", f"ask scout: {word}", run)
    end = await client.ended(run)
    assert "Scout here. " in text_of(end["message"])
    assert word in text_of(end["message"])


async def test_an_aborted_answer_keeps_its_partial_text_and_ends_once(mobot: Mobot, client: Client) -> None:
    session, run = f"abort-{uuid.uuid4()}", str(uuid.uuid4())
    key = f"agent:main:{session}"
    await client.send(key, "count 200", run)
    partial = await client.streamed(run)
    answer = await client.call("chat.abort", {"sessionKey": key, "runId": run})
    assert answer == {"ok": True, "aborted": True, "runIds": [run]}
    end = await client.ended(run)
    assert end["state"] == "aborted"
    assert text_of(end["message"]).startswith(partial)
    row = (await client.call("sessions.describe", {"key": key}))["session"]
    assert (row["status"], row["abortedLastRun"], row.get("lastRunError")) == ("killed", True, None)

    next_run = str(uuid.uuid4())
    await client.send(key, "still there?", next_run)
    await client.ended(next_run)
    assert len(client.ends(run)) == 1
    assert runs_finished(events_of(mobot, f"bots/main/sessions/{session}")) == [run, next_run]


async def test_messages_sent_without_waiting_are_answered_in_their_order(mobot: Mobot, client: Client) -> None:
    session = f"order-{uuid.uuid4()}"
    runs = [str(uuid.uuid4()) for _ in range(10)]
    async with asyncio.TaskGroup() as tasks:
        for number, run in enumerate(runs):
            tasks.create_task(client.send(f"agent:main:{session}", f"number {number}", run))
    for run in runs:
        await client.ended(run)
    log = events_of(mobot, f"bots/main/sessions/{session}")
    assert runs_finished(log) == runs
    assert texts(log, event_pb2.ROLE_USER) == [f"number {number}" for number in range(10)]
    assert texts(log, event_pb2.ROLE_ASSISTANT) == [f"Mo here. You said: number {number}" for number in range(10)]


async def test_a_run_that_fails_says_why_and_the_session_goes_on(mobot: Mobot, client: Client) -> None:
    session, failing, retried = f"fail-{uuid.uuid4()}", str(uuid.uuid4()), str(uuid.uuid4())
    key = f"agent:main:{session}"
    await client.send(key, "fail", failing)
    end = await client.ended(failing)
    assert (end["state"], end["errorMessage"]) == ("error", "you asked me to fail")

    await client.send(key, "retry", retried)
    end = await client.ended(retried)
    assert (end["state"], text_of(end["message"])) == ("final", "This is attempt 2.")
    assert runs_finished(events_of(mobot, f"bots/main/sessions/{session}")) == [failing, retried]


async def test_what_a_bot_remembers_is_found_from_another_session(client: Client) -> None:
    saved, searched, word = str(uuid.uuid4()), str(uuid.uuid4()), f"zebra{uuid.uuid4().hex}"
    await client.send(f"agent:main:a-{uuid.uuid4()}", f"remember the {word} is striped", saved)
    assert (await client.ended(saved))["state"] == "final"
    await client.send(f"agent:main:b-{uuid.uuid4()}", f"recall {word}", searched)
    assert f"the {word} is striped" in text_of((await client.ended(searched))["message"])
