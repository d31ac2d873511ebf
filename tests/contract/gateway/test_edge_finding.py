"""Searching, forking and shared pages through the gateway, before the real session service."""

import asyncio

import httpx
import pytest
from edge_oracle import validator
from real_world import real_edge

from mobot.session.v1 import event_pb2, part_pb2, session_pb2, session_service_pb2, session_service_pb2_grpc

A = "agent:main:a"
NAME = "bots/main/sessions/a"


@pytest.fixture
async def real(tmp_path):
    async with real_edge(tmp_path) as edge:
        yield edge


@pytest.fixture
async def sessions(real):
    """The session service with a session that has a question, an answer, and another question."""
    stub = session_service_pb2_grpc.SessionServiceStub(real.dialer.dial("session"))
    said = [("1", event_pb2.ROLE_USER, "a zebra?"), ("2", event_pb2.ROLE_ASSISTANT, "<b>zebra</b>"), ("3", 1, "why?")]
    events = [
        event_pb2.Event(id=event_id, message=event_pb2.MessageAppended(role=role, parts=[part_pb2.Part(text=text)]))
        for event_id, role, text in said
    ]
    ensure = session_service_pb2.EnsureSession(created_via="operator")
    append = session_service_pb2.SessionAppend(session=NAME, events=events, ensure=ensure)
    await stub.AppendEvents(session_service_pb2.AppendEventsRequest(append=append))
    return stub


async def test_messages_are_found_in_the_clients_shape(real, sessions):
    async with real.client() as client, asyncio.timeout(60):
        while True:
            found = await client.call("sessions.search", {"query": "zebra", "sessionKeys": [A]})
            if not found.get("indexing"):
                break
            await asyncio.sleep(0.01)
        nothing = await client.call("sessions.search", {"query": "zebra", "agentId": "helper", "limit": 1})
        wrong = await client.refusal("sessions.search", {"query": ""})
    validator("SessionsSearchResult").validate(found)
    assert {(hit["messageId"], hit["role"], hit["sessionKey"]) for hit in found["results"]} == {
        ("1", "user", A),
        ("2", "assistant", A),
    }
    assert nothing["results"] == []
    assert "at /query" in wrong["message"]


async def test_a_fork_begins_before_a_message_and_hands_it_back(real, sessions):
    async with real.client() as client:
        forked = await client.call("sessions.fork", {"sessionKey": A, "entryId": "3"})
        history = await client.call("chat.history", {"sessionKey": forked["sessionKey"]})
        missing = await client.refusal("sessions.fork", {"sessionKey": A, "entryId": "nosuch"})
        not_mine = await client.refusal("sessions.fork", {"sessionKey": A, "entryId": "2"})
    validator("SessionsForkResult").validate(forked)
    assert forked["editorText"] == "why?"
    assert [message["role"] for message in history["messages"]] == ["user", "assistant"]
    assert missing["details"]["reason"] == "entry-not-found"
    assert not_mine["details"]["reason"] == "entry-not-user"


async def share(sessions) -> session_pb2.ShareLink:
    request = session_service_pb2.CreateShareLinkRequest(parent=NAME)
    return (await sessions.CreateShareLink(request)).share_link


async def test_a_shared_session_is_a_page_without_script_and_json(real, sessions):
    link = await share(sessions)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{real.port}") as client:
        page = await client.get(f"/share/{link.token}")
        data = (await client.get(f"/share/{link.token}.json")).json()
        by_header = await client.get(f"/share/{link.token}", headers={"Accept": "application/json"})
        await sessions.RevokeShareLink(session_service_pb2.RevokeShareLinkRequest(name=link.name))
        gone = await client.get(f"/share/{link.token}")
        strange = [await client.get(f"/share/{token}") for token in ("x", "%2e%2e", "x" * 500, "a" * 43)]
    assert page.status_code == 200
    assert "&lt;b&gt;zebra&lt;/b&gt;" in page.text
    assert "<script" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["cache-control"] == "no-store"
    first = data["messages"][0]
    assert (first["role"], first["content"][0]["text"]) == ("user", "a zebra?")
    assert by_header.json() == data
    assert {response.status_code for response in (gone, *strange)} == {404}


async def test_a_long_shared_session_goes_on_on_the_next_page(real, sessions):
    events = [
        event_pb2.Event(id=f"more-{n}", message=event_pb2.MessageAppended(role=1, parts=[part_pb2.Part(text=f"m{n}")]))
        for n in range(250)
    ]
    append = session_service_pb2.SessionAppend(session=NAME, events=events)
    await sessions.AppendEvents(session_service_pb2.AppendEventsRequest(append=append))
    link = await share(sessions)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{real.port}") as client:
        first = (await client.get(f"/share/{link.token}.json")).json()
        second = (await client.get(f"/share/{link.token}.json", params={"page": first["nextPage"]})).json()
        damaged = await client.get(f"/share/{link.token}.json", params={"page": "damaged"})
        html = (await client.get(f"/share/{link.token}")).text
    assert (len(first["messages"]), len(second["messages"]), second["nextPage"]) == (200, 53, None)
    assert damaged.status_code == 404
    assert "What follows" in html


async def test_the_calls_are_there_over_http_too(real, sessions):
    headers = {"Authorization": "Bearer secret"}
    base = f"http://127.0.0.1:{real.port}/v1"
    async with httpx.AsyncClient(base_url=base, headers=headers) as client:
        usage = await client.get(f"/{NAME}:usage")
        everything = await client.get("/sessions:usage", params={"bot": "bots/main"})
        target = {"sessionId": "b", "session": {"label": "Fork"}}
        forked = await client.post(f"/{NAME}:fork", json={"sequence": 3, "target": target})
        merged = await client.post("/bots/main/sessions/c:merge", json={"sources": [NAME, "bots/main/sessions/b"]})
        link = await client.post(f"/{NAME}/shareLinks", json={})
        links = await client.get(f"/{NAME}/shareLinks")
        revoked = await client.post(f"/{link.json()['shareLink']['name']}:revoke", json={})
        found = await client.post("/sessions:search", json={"query": "zebra"})
    assert usage.json()["sum"]["messageCount"] == "3"
    assert everything.json()["sessionCount"] == "1"
    assert (forked.json()["session"]["label"], merged.json()["eventCount"]) == ("Fork", "3")
    assert "token" not in links.json()["shareLinks"][0]
    assert (revoked.status_code, found.status_code) == (200, 200)


async def test_a_session_created_as_a_fork_begins_with_its_parents_transcript(real, sessions):
    async with real.client() as client:
        made = await client.call("sessions.create", {"key": "child", "parentSessionKey": A, "fork": True})
        history = await client.call("chat.history", {"sessionKey": made["key"]})
        row = (await client.call("sessions.describe", {"key": made["key"]}))["session"]
    assert [message["role"] for message in history["messages"]] == ["user", "assistant", "user"]
    assert row["forkSource"]["sessionKey"] == A
