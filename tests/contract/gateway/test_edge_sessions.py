"""sessions.* over the wire: the shapes, the words and the guards that clients rely on."""

import pytest

MAIN = "agent:main:main"


async def create(client, **params):
    return await client.call("sessions.create", params)


async def test_a_created_session_is_listed_described_and_resolved(edge):
    async with edge.client() as client:
        made = await create(client, key="thread:budget", label="Budget", description="numbers", persistent=True)
        listed = await client.call("sessions.list", {"includeDerivedTitles": True, "includeLastMessage": True})
        described = await client.call("sessions.describe", {"key": made["key"]})
        by_key = await client.call("sessions.resolve", {"key": "thread:budget"})
        by_label = await client.call("sessions.resolve", {"label": "Budget"})
        by_address = await client.call(
            "sessions.resolve", {"reference": {"key": "agent:main:thread:budget", "slug": "budget"}, "agentId": "main"}
        )

    assert made["key"] == "agent:main:thread:budget"
    assert (made["ok"], made["runStarted"], made["created"]) == (True, False, True)
    assert made["entry"]["sessionId"] == made["sessionId"]
    assert made["resolved"] == {"modelProvider": "mobot", "model": "echo"}
    [row] = listed["sessions"]
    assert {key: row[key] for key in ("key", "kind", "agentId", "sessionId", "label", "displayName")} == {
        "key": made["key"],
        "kind": "direct",
        "agentId": "main",
        "sessionId": made["sessionId"],
        "label": "Budget",
        "displayName": "Budget",
    }
    assert (row["persistent"], row["description"], row["classification"]) == (True, "numbers", "thread")
    assert (row["hasActiveRun"], row["activeRunIds"]) == (False, [])
    assert (listed["count"], listed["totalCount"], listed["hasMore"], listed["nextOffset"]) == (1, 1, False, None)
    assert described["session"]["key"] == made["key"]
    assert (
        by_key == by_label == by_address == {"ok": True, "key": made["key"], "agentId": "main", "displayName": "Budget"}
    )


async def test_a_session_without_a_key_gets_one_of_its_own(edge):
    async with edge.client() as client:
        one, two = await create(client), await create(client, agentId="helper")

    assert one["key"].startswith("agent:main:dashboard:")
    assert two["key"].startswith("agent:helper:dashboard:")


async def test_creating_an_existing_key_adopts_it_with_the_new_label(edge):
    async with edge.client() as client:
        first = await create(client, key="named:research", label="one")
        second = await create(client, key="agent:main:named:research", label="two")
        resumed = await create(client, key="named:research", label="three", resumeIfExists=True)
        refused = await client.refusal("sessions.create", {"key": "named:research", "resumeIfExists": False})

    assert (second["sessionId"], second["entry"]["label"], second["created"]) == (first["sessionId"], "two", False)
    assert resumed["entry"]["label"] == "two"
    assert refused["details"]["reason"] == "session-already-exists"


async def test_a_session_can_be_created_with_its_first_message(edge):
    async with edge.client() as client:
        made = await create(client, key="a", message="hello", idempotencyKey="first")
        final = await client.final("first")

    assert (made["runStarted"], made["runId"], made["status"]) == (True, "first", "started")
    assert final["sessionKey"] == "agent:main:a"


@pytest.mark.parametrize(
    ("method", "params", "message"),
    [
        ("sessions.create", {"key": "agent:nosuch:main"}, 'Unknown agent id "nosuch"'),
        ("sessions.create", {"key": "b", "label": "taken"}, "label already in use: taken"),
        ("sessions.resolve", {"key": "nope"}, "No session found: nope"),
        ("sessions.resolve", {"label": "nope"}, "No session found with label: nope"),
        ("sessions.delete", {"key": MAIN}, "Cannot delete the main session (agent:main:main)."),
        ("sessions.create", {"key": "agent:helper:x", "agentId": "main"}, "key belongs to agent helper, not to main"),
    ],
)
async def test_refusals_use_the_words_clients_know(edge, method, params, message):
    async with edge.client() as client:
        await create(client, key="a", label="taken")
        refused = await client.refusal(method, params)

    assert (refused["code"], refused["message"]) == ("INVALID_REQUEST", message)


@pytest.mark.parametrize(
    "key", ["../x", "agent:main:bad key/../x", "a\u0000b", "x" * 300, "s\u0435ssion", "agent:main:"]
)
@pytest.mark.parametrize("method", ["sessions.create", "sessions.patch", "sessions.describe", "sessions.delete"])
async def test_bad_keys_are_refused_with_the_rule_they_break(edge, method, key):
    async with edge.client() as client:
        refused = await client.refusal(method, {"key": key})

    assert refused["code"] == "INVALID_REQUEST"
    assert refused["details"]["reason"] == "resource-name-invalid"


async def test_a_look_alike_letter_is_named(edge):
    async with edge.client() as client:
        refused = await client.refusal("sessions.create", {"key": "s\u0435ssion"})

    assert "U+0435" in refused["message"]


async def test_a_patch_changes_clears_and_creates(edge):
    async with edge.client() as client:
        await client.call("sessions.subscribe")
        made = await client.call("sessions.patch", {"key": "a", "label": "one", "pinned": True, "thinkingLevel": "low"})
        cleared = await client.call("sessions.patch", {"key": "a", "label": None, "thinkingLevel": None})
        row = (await client.call("sessions.describe", {"key": "a"}))["session"]
        await client.event("sessions.changed", reason="patch", nth=2)
        created = await client.event("sessions.changed", reason="create")

    assert (made["ok"], made["key"], made["entry"]["label"]) == (True, "agent:main:a", "one")
    assert "label" not in cleared["entry"]
    assert row["pinned"] is True
    assert "thinkingLevel" not in row
    assert created["session"]["key"] == "agent:main:a"


async def test_a_stale_guard_refuses_a_change(edge):
    async with edge.client() as client:
        await create(client, key="a")
        patched = await client.refusal("sessions.patch", {"key": "a", "expectedSessionId": "old", "label": "x"})
        reset = await client.refusal("sessions.reset", {"key": "a", "expectedSessionId": "old"})

    assert patched["details"]["reason"] == reset["details"]["reason"] == "session-changed"


async def test_archived_sessions_are_put_away_and_taken_back(edge):
    async with edge.client() as client:
        await create(client, key="a")
        await client.call("sessions.patch", {"key": "a", "archived": True})
        active = await client.call("sessions.list")
        archived = await client.call("sessions.list", {"archived": True})
        everything = await client.call("sessions.list", {"archived": "all"})
        await client.call("sessions.patch", {"key": "a", "archived": False})
        back = await client.call("sessions.list")

    assert [answer["count"] for answer in (active, archived, everything, back)] == [0, 1, 1, 1]
    assert archived["sessions"][0]["archived"] is True


async def test_an_automatic_read_mark_does_not_undo_a_persons_unread_mark(edge):
    async with edge.client() as client:
        await client.call("sessions.patch", {"key": "a", "unread": True})
        session = edge.world.sessions["bots/main/sessions/a"]
        session.mark_unread_time.FromMilliseconds(1_800_000_000_123)
        ignored = await client.call("sessions.patch", {"key": "a", "unread": False, "expectedMarkedUnreadAt": None})
        done = await client.call(
            "sessions.patch", {"key": "a", "unread": False, "expectedMarkedUnreadAt": 1_800_000_000_123}
        )

    assert (ignored["entry"]["unread"], done["entry"]["unread"]) == (True, False)


async def test_a_reset_begins_a_new_transcript(edge):
    async with edge.client() as client:
        await client.call("sessions.subscribe")
        await client.call("chat.send", {"sessionKey": "a", "message": "hi", "idempotencyKey": "r1"})
        await client.final("r1")
        before = (await client.call("sessions.describe", {"key": "a"}))["session"]
        done = await client.call("sessions.reset", {"key": "a", "reason": "reset"})
        history = await client.call("chat.history", {"sessionKey": "a"})
        changed = await client.event("sessions.changed", reason="reset")

    assert done["entry"]["sessionId"] != before["sessionId"]
    [marker] = history["messages"]
    assert (marker["role"], marker["content"], marker["__openclaw"]["kind"]) == (
        "system",
        [{"type": "text", "text": "Reset"}],
        "reset",
    )
    assert changed["sessionKey"] == "agent:main:a"


async def test_a_persistent_session_is_protected_at_every_entrance(edge):
    async with edge.client() as client:
        made = await create(client, key="a", label="A", persistent=True)
        by_method = await client.refusal("sessions.reset", {"key": "a"})
        by_successor = await client.refusal(
            "sessions.create", {"parentSessionKey": "a", "succeedsParent": True, "emitCommandHooks": True}
        )
        finals = []
        for number, text in enumerate(("/reset", "/new", "/clear", " /RESET now")):
            ack = await client.call("chat.send", {"sessionKey": "a", "message": text, "idempotencyKey": f"c{number}"})
            assert ack == {"runId": f"c{number}", "status": "started"}
            finals.append(await client.final(f"c{number}"))
        after = (await client.call("sessions.describe", {"key": "a"}))["session"]

    for refused in (by_method, by_successor):
        assert refused["code"] == "INVALID_REQUEST"
        assert refused["details"]["reason"] == "session-persistent"
        assert refused["message"].startswith("Cannot reset persistent session agent:main:a")
    for final in finals:
        assert final["state"] == "final"
        assert "Cannot reset persistent session" in final["message"]["content"][0]["text"]
    assert after["sessionId"] == made["sessionId"]


async def test_text_commands_reset_what_is_not_protected(edge):
    async with edge.client() as client:
        made = await create(client, key="a")
        await client.call("chat.send", {"sessionKey": "a", "message": "/new", "idempotencyKey": "c1"})
        final = await client.final("c1")
        again = await client.call("chat.send", {"sessionKey": "a", "message": "/new", "idempotencyKey": "c1"})
        after = (await client.call("sessions.describe", {"key": "a"}))["session"]

    assert final["message"]["content"][0]["text"] == "✅ New session started."
    assert again == {"runId": "c1", "status": "ok"}
    assert after["sessionId"] != made["sessionId"]
    assert edge.world.drafts == []


async def test_deleting_is_told_twice_and_forgives_a_missing_key(edge):
    async with edge.client() as client:
        await client.call("sessions.subscribe")
        await create(client, key="a")
        deleted = await client.call("sessions.delete", {"key": "a", "deleteTranscript": True})
        again = await client.call("sessions.delete", {"key": "a"})
        await client.event("sessions.changed", reason="delete", nth=2)
        told = client.events("sessions.changed", reason="delete")

    assert deleted == {"ok": True, "key": "agent:main:a", "deleted": True, "archived": []}
    assert again["deleted"] is False
    assert [event.get("sessionKey") for event in told] == ["agent:main:a", None]


async def test_a_deleted_key_can_be_used_again_with_an_empty_transcript(edge):
    async with edge.client() as client:
        await client.call("chat.send", {"sessionKey": "a", "message": "hi", "idempotencyKey": "r1"})
        await client.final("r1")
        await client.call("sessions.delete", {"key": "a"})
        gone = await client.call("sessions.get", {"key": "a"})
        previewed = await client.call("sessions.preview", {"keys": ["a"]})
        again = await create(client, key="a", label="again")
        history = await client.call("chat.history", {"sessionKey": "a"})

    assert gone == {"messages": []}
    assert [preview["status"] for preview in previewed["previews"]] == ["missing"]
    assert again["entry"]["label"] == "again"
    assert [message["role"] for message in history["messages"]] == ["system"]


async def test_a_long_list_is_paged_by_offset(edge):
    for number in range(25):
        edge.world.ensure(f"bots/main/sessions/s{number:02}", created_via="operator")
    async with edge.client() as client:
        first = await client.call("sessions.list", {"limit": 10})
        last = await client.call("sessions.list", {"limit": 10, "offset": 20})
        found = await client.call("sessions.list", {"search": "S07"})
        everything = await client.call("sessions.list", {"limit": 10_000})

    assert (first["count"], first["hasMore"], first["nextOffset"]) == (10, True, 10)
    assert (last["count"], last["hasMore"], last["nextOffset"]) == (5, False, None)
    assert [row["key"] for row in found["sessions"]] == ["agent:main:s07"]
    assert everything["count"] == 25


async def test_previews_say_what_they_could_not_read(edge):
    async with edge.client() as client:
        await client.call("chat.send", {"sessionKey": "a", "message": "hi", "idempotencyKey": "r1"})
        await client.final("r1")
        await create(client, key="empty")
        answer = await client.call("sessions.preview", {"keys": ["a", "empty", "nope", "../x"]})

    assert [preview["status"] for preview in answer["previews"]] == ["ok", "empty", "missing", "error"]
    assert answer["previews"][0]["items"] == [
        {"role": "user", "text": "hi"},
        {"role": "assistant", "text": "Hello from the bot."},
    ]


@pytest.mark.parametrize(
    ("method", "scopes", "missing"),
    [
        ("sessions.list", [], "operator.read"),
        ("sessions.create", ["operator.read"], "operator.write"),
        ("sessions.reset", ["operator.read", "operator.write"], "operator.admin"),
        ("chat.inject", ["operator.write"], "operator.admin"),
        ("exec.approval.list", ["operator.read", "operator.write"], "operator.approvals"),
    ],
)
async def test_a_missing_scope_is_named(edge, method, scopes, missing):
    async with edge.client(scopes=scopes) as client:
        refused = await client.refusal(method, {"key": "a"})

    assert refused == {
        "code": "FORBIDDEN",
        "message": f"missing scope: {missing}",
        "details": {"code": "MISSING_SCOPE", "missingScope": missing, "requiredScopes": [missing]},
    }
