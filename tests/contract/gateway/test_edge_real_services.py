"""The gateway before the real services: what the stand-ins promise holds."""

import pytest
from edge_oracle import validator
from real_world import real_edge

from bot_sdk.errors import Permanent
from session_service.settings import SessionSettings

A = "agent:main:a"


@pytest.fixture
async def real(tmp_path):
    async with real_edge(tmp_path) as edge:
        yield edge


async def send(client, text="hi", run="run-1", key=A):
    return await client.call("chat.send", {"sessionKey": key, "message": text, "idempotencyKey": run})


async def test_a_turn_from_the_message_to_its_one_end(real):
    async with real.client() as client:
        await client.call("sessions.subscribe")
        ack = await send(client)
        final = await client.final("run-1")
        await client.event("sessions.changed", phase="end")
        again = await send(client)
        history = await client.call("chat.history", {"sessionKey": A})
        row = (await client.call("sessions.describe", {"key": A}))["session"]
        waited = await client.call("agent.wait", {"runId": "run-1"})

    assert (ack["status"], again["status"]) == ("started", "ok")
    assert (final["state"], final["message"]["content"][0]["text"]) == ("final", "Hello from a real bot.")
    deltas = client.events("chat", state="delta")
    assert deltas[-1]["message"]["content"][0]["text"] == "Hello from a real bot."
    assert len([e for e in client.events("chat") if e["state"] in ("final", "error", "aborted")]) == 1
    assert [(m["role"], m.get("idempotencyKey")) for m in history["messages"]] == [
        ("user", "run-1:user"),
        ("assistant", None),
    ]
    assert [e["message"]["role"] for e in client.events("session.message")] == ["user", "assistant"]
    assert (row["status"], row["hasActiveRun"], row["lastRunId"]) == ("done", False, "run-1")
    assert (waited["status"], waited["terminalReply"]["text"]) == ("ok", "Hello from a real bot.")
    assert real.brain.turns == 1


async def test_many_messages_in_flight_end_once_each_and_in_order(real):
    async with real.client() as client:
        runs = [f"run-{number}" for number in range(30)]
        requests = [
            await client.post("chat.send", {"sessionKey": A, "message": f"m{n}", "idempotencyKey": run})
            for n, run in enumerate(runs)
        ]
        for request in requests:
            await client.answer(request)
        for run in runs:
            await client.final(run)
        history = await client.call("chat.history", {"sessionKey": A})
        ends = [e["runId"] for e in client.events("chat") if e["state"] == "final"]

    assert ends == runs
    assert [m["content"] for m in history["messages"] if m["role"] == "user"] == [f"m{n}" for n in range(30)]


async def test_an_aborted_turn_keeps_what_was_said(real):
    real.brain.words, real.brain.pause_s = ("word ",) * 1000, 0.02
    async with real.client() as client:
        await send(client)
        await client.event("chat", state="delta", nth=2)
        answer = await client.call("chat.abort", {"sessionKey": A, "runId": "run-1"})
        end = await client.final("run-1")
        again = await send(client)

    assert answer == {"ok": True, "aborted": True, "runIds": ["run-1"]}
    assert end["state"] == "aborted"
    assert end["message"]["content"][0]["text"].startswith("word")
    assert again["status"] == "timeout"


async def test_a_failed_turn_says_why(real):
    real.brain.failure = Permanent("the model is on fire", reason="MODEL_UNREACHABLE")
    async with real.client() as client:
        await send(client)
        end = await client.final("run-1")
        waited = await client.call("agent.wait", {"runId": "run-1"})

    assert (end["state"], end["errorMessage"]) == ("error", "the model is on fire")
    assert (waited["status"], waited["error"]) == ("error", "the model is on fire")


async def test_mail_for_a_sleeping_bot_waits_visibly(tmp_path):
    async with real_edge(tmp_path, with_worker=False) as edge, edge.client() as client:
        ack = await send(client)
        history = await client.call("chat.history", {"sessionKey": A})
        again = await send(client)

    assert (ack["status"], again["status"]) == ("started", "in_flight")
    [item] = history["pendingInputs"]["items"]
    assert (item["runId"], item["state"], item["message"]["content"]) == ("run-1", "queued", "hi")


async def test_what_was_accepted_survives_everything_but_the_disk(tmp_path):
    async with real_edge(tmp_path, with_worker=False) as edge, edge.client() as client:
        await client.call("sessions.create", {"key": "a", "label": "A", "persistent": True})
        await send(client)
    async with real_edge(tmp_path, create_bots=False) as edge, edge.client() as client:
        final = await client.call("agent.wait", {"runId": "run-1", "timeoutMs": 10_000})
        again = await send(client)
        history = await client.call("chat.history", {"sessionKey": A})
        refused = await client.refusal("sessions.reset", {"key": "a"})

    assert (final["status"], again["status"]) == ("ok", "ok")
    assert [m["role"] for m in history["messages"]] == ["user", "assistant"]
    assert refused["details"]["reason"] == "session-persistent"


async def test_sessions_are_made_changed_reset_and_deleted(real):
    async with real.client() as client:
        await client.call("sessions.subscribe")
        made = await client.call("sessions.create", {"key": "thread:b", "label": "B", "description": "d"})
        taken = await client.refusal("sessions.create", {"key": "c", "label": "B"})
        adopted = await client.call("sessions.create", {"key": "thread:b", "label": "B2"})
        unknown = await client.refusal("sessions.create", {"key": "agent:nosuch:x"})
        patched = await client.call("sessions.patch", {"key": "thread:b", "pinned": True, "thinkingLevel": "low"})
        found = await client.call("sessions.resolve", {"label": "B2"})
        reset = await client.call("sessions.reset", {"key": "thread:b", "expectedSessionId": made["sessionId"]})
        stale = await client.refusal("sessions.reset", {"key": "thread:b", "expectedSessionId": made["sessionId"]})
        deleted = await client.call("sessions.delete", {"key": "thread:b"})
        reborn = await client.call("sessions.create", {"key": "thread:b"})
        await client.call("sessions.create", {"key": "main"})
        main = await client.refusal("sessions.delete", {"key": "main"})

    assert taken["message"] == "label already in use: B"
    assert unknown["message"] == 'Unknown agent id "nosuch"'
    assert (adopted["sessionId"], adopted["entry"]["label"]) == (made["sessionId"], "B2")
    assert (patched["entry"]["pinned"], patched["entry"]["thinkingLevel"]) == (True, "low")
    assert found["key"] == "agent:main:thread:b"
    assert reset["entry"]["sessionId"] != made["sessionId"]
    assert stale["details"]["reason"] == "session-changed"
    assert (deleted["deleted"], reborn["key"]) == (True, "agent:main:thread:b")
    assert main["details"]["reason"] == "session-is-main"


async def test_a_persistent_session_is_deleted_only_by_who_names_its_transcript(real):
    real.brain.words, real.brain.pause_s = ("word ",) * 1000, 0.02
    async with real.client() as client:
        made = await client.call("sessions.create", {"key": "a", "label": "A", "persistent": True})
        await send(client)
        await client.event("chat", state="delta")
        refusals = [
            await client.refusal("sessions.delete", {"key": "a", **expected})
            for expected in ({}, {"expectedSessionId": "other"})
        ]
        running = (await client.call("sessions.describe", {"key": "a"}))["session"]
        deleted = await client.call("sessions.delete", {"key": "a", "expectedSessionId": made["sessionId"]})

    assert [refused["details"]["reason"] for refused in refusals] == ["confirmation-required", "session-changed"]
    assert running["activeRunIds"] == ["run-1"], "what is refused stops nothing"
    assert deleted["deleted"]


async def test_a_protected_main_session_is_guarded_at_every_entrance(tmp_path):
    settings = SessionSettings(protect_main_session=True)
    async with real_edge(tmp_path, sessions=settings) as real, real.client() as client:
        real.brain.words, real.brain.pause_s = ("word ",) * 1000, 0.02
        made = await client.call("sessions.create", {"key": "main"})
        await send(client, key="main")
        await client.event("chat", state="delta")
        refusals = [
            await client.refusal("sessions.reset", {"key": "main"}),
            await client.refusal("sessions.create", {"parentSessionKey": "main", "succeedsParent": True}),
            await client.refusal("sessions.create", {"parentSessionKey": "main", "succeedsParent": True, "fork": True}),
        ]
        finals = []
        for command in ("new", "reset", "clear"):
            sent = {"sessionKey": "main", "message": f"/{command}", "idempotencyKey": command}
            await client.call("chat.send", sent)
            finals.append(await client.final(command))
        after = (await client.call("sessions.describe", {"key": "main"}))["session"]

    assert {refused["details"]["reason"] for refused in refusals} == {"session-is-main"}
    for final in finals:
        assert "Cannot reset the main session" in final["message"]["content"][0]["text"]
    assert after["sessionId"] == made["sessionId"]
    assert after["activeRunIds"] == ["run-1"], "what is refused stops nothing"


async def test_a_reset_stops_what_is_running_first(real):
    real.brain.words, real.brain.pause_s = ("word ",) * 1000, 0.02
    async with real.client() as client:
        await send(client)
        await client.event("chat", state="delta")
        await client.call("sessions.reset", {"key": A})
        end = await client.final("run-1")
        history = await client.call("chat.history", {"sessionKey": A})

    assert end["state"] == "aborted"
    assert [m["role"] for m in history["messages"]] == ["system"]


async def test_our_clients_resume_without_a_hole(real):
    async with real.client() as client:
        token = (await client.call("sessions.list"))["watchToken"]
        await send(client)
        await client.final("run-1")
    async with real.client() as client:
        await client.call("mobot.watch", {"after": token})
        await client.until(
            lambda _: [
                item for e in client.events("mobot.event") for item in e["items"]
                if item["event"] == "chat" and item["payload"]["state"] == "final"
            ]
        )  # fmt: skip
        sequences = [
            item["sequence"] for e in client.events("mobot.event") for item in e["items"] if "sequence" in item
        ]

    assert sorted(set(sequences)) == list(range(1, max(sequences) + 1))
    assert sequences == sorted(sequences)


async def test_agent_answers_twice_with_the_bots_words(real):
    async with real.client() as client:
        request = await client.post("agent", {"message": "hi", "sessionKey": A, "idempotencyKey": "ag-1"})
        accepted = await client.answer(request)
        done = await client.answer(request, nth=2)

    assert accepted["status"] == "accepted"
    assert (done["status"], done["result"]["payloads"][0]["text"]) == ("ok", "Hello from a real bot.")


async def test_schedules_are_the_clients_jobs(real):
    async with real.client() as client:
        empty = await client.call("cron.list")
        job = await client.call(
            "cron.add",
            {
                "name": "Good morning!",
                "schedule": {"kind": "cron", "expr": "0 8 * * *", "tz": "Europe/Rome"},
                "sessionTarget": "main",
                "wakeMode": "now",
                "payload": {"kind": "agentTurn", "message": "good morning"},
                "sessionKey": A,
            },
        )
        (listed,) = (await client.call("cron.list"))["jobs"]
        status = await client.call("cron.status")
        ran = await client.call("cron.run", {"id": job["id"], "mode": "force"})
        ended = await client.call("agent.wait", {"runId": ran["runId"]})
        removed = await client.call("cron.remove", {"id": job["id"]})
        again = await client.call("cron.remove", {"jobId": job["id"]})
        refused = await client.refusal(
            "cron.add", {"name": "x", "schedule": {"kind": "stream"}, "payload": {"kind": "agentTurn", "message": "x"}}
        )

    assert empty["jobs"] == []
    assert listed["id"] == job["id"]
    assert (listed["sessionKey"], listed["schedule"]["tz"]) == (A, "Europe/Rome")
    assert (status["jobs"], status["nextWakeAtMs"]) == (1, listed["state"]["nextRunAtMs"])
    assert ended["terminalReply"]["text"] == "Hello from a real bot."
    assert (removed["removed"], again["removed"]) == (True, False)
    assert "not served" in refused["message"]
    assert list(validator("CronJob").iter_errors(listed)) == []


async def test_what_is_steered_goes_into_the_running_turn_or_has_one_of_its_own(real):
    async with real.client() as client:
        answer = await client.call("sessions.steer", {"key": A, "message": "hurry", "idempotencyKey": "s-1"})
        await client.final("s-1")

    assert answer["status"] == "started"
