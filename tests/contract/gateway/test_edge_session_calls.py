"""Sessions over HTTP and as `mobot.sessions.*`, what scopes hold there, and the clients' usage report."""

import asyncio

import httpx
import pytest
from real_world import SECRET, real_edge

from session_service.settings import SessionSettings

BEARER = {"Authorization": f"Bearer {SECRET}"}
NAME = "bots/main/sessions/plan"
PATIENCE_S = 60


@pytest.fixture
async def real(tmp_path):
    async with real_edge(tmp_path, sessions=SessionSettings(index_delay_s=0.0, max_named_sessions=2)) as edge:
        yield edge


@pytest.fixture
async def rest(real):
    async with httpx.AsyncClient(base_url=real.http, headers=BEARER, timeout=PATIENCE_S) as client:
        yield client


async def made(rest, session_id="plan", **fields):
    answer = await rest.post("/v1/bots/main/sessions", json={"sessionId": session_id, "session": fields})
    assert answer.status_code == 200, answer.text
    return answer.json()["session"]


async def begin_turn(real, client, key):
    """A long turn is under way when this returns."""
    real.brain.words, real.brain.pause_s = ("word ",) * 100_000, 0.01
    await client.call("sessions.subscribe")
    await client.call("chat.send", {"sessionKey": key, "message": "go", "idempotencyKey": f"run-of-{key}"})
    while real.brain.turns == 0:  # noqa: ASYNC110 - the brain tells nobody
        await asyncio.sleep(0.01)
    real.brain.turns = 0


async def test_a_session_is_made_read_changed_listed_archived_deleted_and_purged(rest):
    template = {"templateId": "daily", "template": {"session": {"group": "Work"}, "opening": "Good morning."}}
    await rest.post("/v1/templates", json=template)
    created = await rest.post(
        "/v1/bots/main/sessions",
        json={"sessionId": "plan", "template": "templates/daily", "session": {"label": "Plan", "tags": ["a", "b"]}},
    )
    got = (await rest.get(f"/v1/{NAME}")).json()["session"]
    changed = (await rest.patch(f"/v1/{NAME}?updateMask=description,pinned", json={"pinned": True})).json()["session"]
    stale = await rest.patch(f"/v1/{NAME}?updateMask=description", json={"etag": got["etag"], "description": "x"})
    listed = (await rest.get("/v1/sessions?filter.tags=a&countTotal=true&view.derivedTitle=true")).json()
    found = (await rest.get("/v1/sessions:resolve?label=plan")).json()["session"]
    events = (await rest.get(f"/v1/{NAME}/events?filter.kinds=message")).json()
    event = (await rest.get(f"/v1/{NAME}/events/{events['events'][0]['sequence']}")).json()["event"]
    groups = (await rest.get("/v1/sessionGroups")).json()["groups"]
    archived = (await rest.post(f"/v1/{NAME}:archive")).json()["session"]
    back = (await rest.post(f"/v1/{NAME}:unarchive")).json()["session"]
    deleted = (await rest.delete(f"/v1/{NAME}")).json()
    undeleted = (await rest.post(f"/v1/{NAME}:undelete")).json()["session"]
    await rest.delete(f"/v1/{NAME}")
    purged = await rest.post(f"/v1/{NAME}:purge", json={"expectedUid": got["uid"]})
    gone = await rest.get(f"/v1/{NAME}")

    assert created.json()["created"] is True
    assert (got["group"], got["template"], got["userCreated"]) == ("Work", "templates/daily", True)
    assert (got["createdBy"], got["createdVia"]) == ("operators/root", "operator")
    assert changed["pinned"] is True
    assert (stale.status_code, stale.json()["error"]["reason"]) == (409, "ETAG_MISMATCH")
    assert ([each["name"] for each in listed["sessions"]], listed["totalCount"]) == ([NAME], "1")
    assert found["name"] == NAME
    assert event["message"]["parts"] == [{"text": "Good morning."}]
    assert [group["group"] for group in groups] == ["Work"]
    assert (archived["state"], back["state"]) == ("SESSION_STATE_ARCHIVED", "SESSION_STATE_ACTIVE")
    assert deleted["deleted"] is True
    assert undeleted["state"] == "SESSION_STATE_ACTIVE"
    assert purged.status_code == 200
    assert (gone.status_code, gone.json()["error"]["reason"]) == (404, "SESSION_NOT_FOUND")


async def test_what_is_made_over_http_counts_as_its_makers(rest):
    await made(rest, "a", label="A")
    await made(rest, "b", label="B", userCreated=False)
    third = await rest.post("/v1/bots/main/sessions", json={"sessionId": "c", "session": {"label": "C"}})
    fork = await rest.post(
        "/v1/bots/main/sessions/a:fork", json={"target": {"parent": "bots/main", "session": {"label": "D"}}}
    )

    for refused in (third, fork):
        assert (refused.status_code, refused.json()["error"]["reason"]) == (429, "SESSION_CAP_REACHED")


async def test_a_reset_stops_the_run_first(real, rest):
    before = await made(rest)
    async with real.client() as client:
        await begin_turn(real, client, "agent:main:plan")
        trial = await rest.post(f"/v1/{NAME}:reset", json={"validateOnly": True})
        at_work = (await rest.get(f"/v1/{NAME}")).json()["session"]
        done = (await rest.post(f"/v1/{NAME}:reset", json={})).json()["session"]
        told = (await rest.get("/v1/runs/run-of-agent:main:plan:wait?timeout=50s")).json()
        await begin_turn(real, client, "agent:main:plan2")
        over_socket = await client.call("mobot.sessions.reset", {"name": "bots/main/sessions/plan2"})

    assert trial.status_code == 200
    assert at_work["activeRuns"] == ["run-of-agent:main:plan"]
    assert done["uid"] != before["uid"]
    assert "activeRuns" not in done
    assert told["message"]["state"] == "MESSAGE_STATE_CANCELLED"
    assert "activeRuns" not in over_socket["session"]


async def test_what_is_refused_stops_nothing(real, rest):
    await made(rest, label="Plan", persistent=True)
    async with real.client() as client:
        await begin_turn(real, client, "agent:main:plan")
        reset = await rest.post(f"/v1/{NAME}:reset", json={})
        deletion = await rest.delete(f"/v1/{NAME}")
        at_work = (await rest.get(f"/v1/{NAME}")).json()["session"]
        confirmed = await rest.delete(f"/v1/{NAME}?expectedUid={at_work['uid']}")
        told = (await rest.get("/v1/runs/run-of-agent:main:plan:wait?timeout=50s")).json()

    assert reset.json()["error"]["reason"] == "SESSION_PERSISTENT"
    assert deletion.json()["error"]["reason"] == "CONFIRMATION_REQUIRED"
    assert at_work["activeRuns"] == ["run-of-agent:main:plan"]
    assert confirmed.json()["deleted"] is True
    assert told["message"]["state"] == "MESSAGE_STATE_CANCELLED"


@pytest.mark.parametrize(
    ("asked", "verb", "path", "status"),
    [
        ("operator.read", "GET", f"/v1/{NAME}", 200),
        ("operator.read", "PATCH", f"/v1/{NAME}", 403),
        ("operator.read operator.write", "PATCH", f"/v1/{NAME}", 200),
        ("operator.write", "POST", f"/v1/{NAME}:reset", 403),
        ("operator.admin", "POST", f"/v1/{NAME}:reset", 200),
        ("", "GET", f"/v1/{NAME}", 403),
        ("nonsense", "GET", f"/v1/{NAME}", 403),
    ],
)
async def test_a_request_may_ask_for_fewer_scopes(rest, asked, verb, path, status):
    await made(rest)
    answer = await rest.request(verb, path, headers={"Mobot-Scopes": asked}, **({} if verb == "GET" else {"json": {}}))
    assert answer.status_code == status, answer.text
    if status == 403:
        assert answer.json()["error"]["reason"] == "MISSING_SCOPE"


@pytest.mark.parametrize(
    ("address", "status"), [("127.0.0.1", 200), ("::1", 200), ("203.0.113.7", 403), ("not an address", 403)]
)
async def test_from_elsewhere_the_token_alone_may_do_nothing(real, address, status):
    here = httpx.ASGITransport(app=real.gateway.app, client=(address, 5000))
    async with httpx.AsyncClient(transport=here, base_url="http://gateway", headers=BEARER) as client:
        answer = await client.get("/v1/sessions")
        described = await client.get("/v1/openapi.json")

    assert answer.status_code == status
    assert described.status_code == 200
    if status == 403:
        assert answer.json()["error"]["reason"] == "MISSING_SCOPE"
        assert "MOBOT_GATEWAY_REQUIRE_DEVICE" in answer.json()["error"]["message"]


async def test_a_session_of_clients_may_be_made_from_a_template(real, rest):
    await rest.post("/v1/templates", json={"templateId": "daily", "template": {"session": {"description": "numbers"}}})
    async with real.client() as client:
        await client.call("sessions.create", {"key": "agent:main:t", "template": "daily"})
        missing = await client.refusal("sessions.create", {"key": "agent:main:u", "template": "weekly"})
    session = (await rest.get("/v1/bots/main/sessions/t")).json()["session"]

    assert (session["description"], session["template"]) == ("numbers", "templates/daily")
    assert missing["details"]["reason"] == "template-not-found"


async def test_usage_is_reported_in_the_clients_shape(real):
    async with real.client() as client:
        await client.call("chat.send", {"sessionKey": "agent:main:a", "message": "hi", "idempotencyKey": "one"})
        await client.call("agent.wait", {"runId": "one", "timeoutMs": 60_000})
        await client.call("sessions.create", {"key": "agent:helper:b"})
        async with asyncio.timeout(PATIENCE_S):
            while not (report := await client.call("sessions.usage"))["aggregates"]["daily"]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)  # usage follows the log
        one = await client.call("sessions.usage", {"key": "agent:main:a"})
        none = await client.call("sessions.usage", {"key": "agent:main:nothing"})
        helper = await client.call("sessions.usage", {"agentId": "helper", "startDate": "2026-01-01"})
        wrong = await client.refusal("sessions.usage", {"startDate": "2026-13-01"})
        turned = await client.refusal("sessions.usage", {"startDate": "2026-02-02", "endDate": "2026-02-01"})

    rows = {row["key"]: row for row in report["sessions"]}
    assert sorted(rows) == ["agent:helper:b", "agent:main:a"]
    assert report["aggregates"]["messages"]["total"] == rows["agent:main:a"]["usage"]["messageCounts"]["total"] == 2
    assert [day["messages"] for day in report["aggregates"]["daily"]] == [2]
    assert [row["key"] for row in one["sessions"]] == ["agent:main:a"]
    assert one["totals"] == report["totals"]
    assert none["sessions"] == []
    assert [row["key"] for row in helper["sessions"]] == ["agent:helper:b"]
    assert helper["startDate"] == "2026-01-01"
    assert wrong["code"] == turned["code"] == "INVALID_REQUEST"


async def test_sessions_are_kept_by_typing(real):
    async with real.client() as client:
        numbers = iter(range(100))

        async def typed(text, key="agent:main:desk"):
            run = f"typed-{next(numbers)}"
            await client.call("chat.send", {"sessionKey": key, "message": text, "idempotencyKey": run})
            return (await client.final(run))["message"]["content"][0]["text"]

        await client.call("sessions.create", {"key": "agent:main:desk"})
        made = await typed("/session new Holiday plans")
        again = await typed("/session new holiday PLANS")
        listed = await typed("/session list holiday")
        way = await typed("/session switch Holiday plans")
        renamed = await typed("/session rename Desk")
        protected = await typed("/session protect")
        refused = await typed("/reset")
        free = await typed("/session unprotect")
        asked = await typed("/session delete Holiday plans")
        kept = await typed("/session delete Holiday plans 00000000")
        deleted = await typed(asked.splitlines()[-1].partition(": ")[2])
        gone = await typed("/session switch Holiday plans")
        usage = await typed("/session dance")

    assert made.startswith("✅ Created ○ agent:main:dashboard:")
    assert "Holiday plans" in made
    assert again.startswith("⚠️")
    assert listed.count("\n") == 0
    assert "Holiday plans" in listed
    assert way in made
    assert "Desk" in renamed
    assert "🔒" in protected
    assert refused.startswith("⚠️")
    assert "🔒" not in free
    assert asked.startswith("This deletes")
    assert kept.startswith("This deletes")
    assert deleted.startswith("✅ Deleted")
    assert gone.startswith("⚠️")
    assert "/session list" in usage
