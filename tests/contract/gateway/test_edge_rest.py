"""REST under /v1 and the `mobot.*` methods, before the real services."""

import json
import re
from pathlib import Path

import httpx
import pytest
from real_world import SECRET, real_edge

from gateway.api.table import pattern_of
from gateway.composition import ENDPOINTS

BEARER = {"Authorization": f"Bearer {SECRET}"}


@pytest.fixture
async def real(tmp_path):
    async with real_edge(tmp_path, with_worker=False) as edge:
        yield edge


@pytest.fixture
async def rest(real):
    async with httpx.AsyncClient(base_url=real.http, headers=BEARER, timeout=30) as client:
        yield client


async def put(rest, text, bot="main", **memory):
    answer = await rest.post(f"/v1/bots/{bot}/memories", json={"draft": {"memory": {"text": text, **memory}}})
    assert answer.status_code == 200, answer.text
    return answer.json()["result"]["memory"]["name"]


async def test_a_memory_is_put_got_found_changed_forgotten_and_brought_back(rest):
    name = await put(rest, "the sky is blue", kind="FACT", tags=["sky"])
    got = (await rest.get(f"/v1/{name}")).json()["memory"]
    found = (await rest.post("/v1/bots/main/memories:search", json={"query": "blue sky", "mode": "TEXT"})).json()
    changed = await rest.patch(f"/v1/{name}?updateMask=importance", json={"importance": 0.9})
    deleted = await rest.delete(f"/v1/{name}")
    gone = (await rest.get("/v1/bots/main/memories")).json()
    back = await rest.post(f"/v1/{name}:undelete")

    assert (got["text"], got["kind"], got["tags"]) == ("the sky is blue", "MEMORY_KIND_FACT", ["sky"])
    assert [hit["memory"]["name"] for hit in found["hits"]] == [name]
    assert changed.json()["memory"]["importance"] == 0.9
    assert deleted.status_code == back.status_code == 200
    assert gone.get("memories", []) == []


async def test_a_list_is_filtered_and_paged_by_its_query(rest):
    for number in range(5):
        await put(rest, f"fact {number}", kind="FACT")
    await put(rest, "a wish", kind="PREFERENCE")
    first = (await rest.get("/v1/bots/main/memories?filter.kinds=fact&pageSize=3")).json()
    token = first["nextPageToken"]
    rest_of = (
        await rest.get("/v1/bots/main/memories", params={"filter.kinds": "fact", "pageSize": 3, "pageToken": token})
    ).json()

    assert [len(page["memories"]) for page in (first, rest_of)] == [3, 2]


async def test_the_same_idempotency_key_puts_once(rest):
    body = {"draft": {"memory": {"text": "once"}, "dedupe": "ALLOW"}}
    body["draft"]["dedupe"] = "DEDUPE_MODE_ALLOW"
    answers = [
        await rest.post("/v1/bots/main/memories", json=body, headers={"Idempotency-Key": "k1"}) for _ in range(2)
    ]
    other = await rest.post(
        "/v1/bots/main/memories", json={"draft": {"memory": {"text": "two"}}}, headers={"Idempotency-Key": "k1"}
    )

    assert len({answer.json()["result"]["memory"]["name"] for answer in answers}) == 1
    assert (other.status_code, other.json()["error"]["reason"]) == (400, "REQUEST_ID_REUSED")


async def test_blocks_are_written_and_read(rest):
    written = await rest.patch("/v1/bots/main/blocks/persona?updateMask=text", json={"text": "Be kind."})
    listed = (await rest.get("/v1/bots/main/blocks")).json()

    assert written.json()["created"]
    assert [block["text"] for block in listed["blocks"]] == ["Be kind."]


BAD = {
    "no such path": ("GET", "/v1/nothing", None, 404, None),
    "a verb the path does not take": ("PUT", "/v1/bots/main/memories", None, 405, None),
    "no JSON": ("POST", "/v1/bots/main/memories", b"{", 400, "FIELD_INVALID"),
    "a list": ("POST", "/v1/bots/main/memories", b"[]", 400, "FIELD_INVALID"),
    "half a character": ("POST", "/v1/bots/main/memories", b'{"draft": "\xff"}', 400, "FIELD_INVALID"),
    "an unknown field": ("POST", "/v1/bots/main/memories:search", b'{"querry": "x"}', 400, "FIELD_INVALID"),
    "an unknown filter": ("GET", "/v1/bots/main/memories?filter.colour=x", None, 400, "FIELD_INVALID"),
    "a number that is none": ("GET", "/v1/bots/main/memories?pageSize=x", None, 400, "FIELD_INVALID"),
    "a kind that is none": ("GET", "/v1/bots/main/memories?filter.kinds=x", None, 400, "FIELD_INVALID"),
    "a type that is wrong": ("POST", "/v1/bots/main/memories", b'{"draft": 5}', 400, "FIELD_INVALID"),
    "NUL in a text": (
        "POST",
        "/v1/bots/main/memories",
        b'{"draft": {"memory": {"text": "a\\u0000"}}}',
        400,
        "FIELD_INVALID",
    ),
    "half a surrogate pair": (
        "POST",
        "/v1/bots/main/memories",
        b'{"draft": {"memory": {"text": "\\ud800"}}}',
        400,
        "FIELD_INVALID",
    ),
    "depth without end": (
        "POST",
        "/v1/bots/main/memories",
        b'{"draft": {"memory": {"metadata": ' + b'{"a":' * 200 + b"1" + b"}" * 200 + b"}}}",
        400,
        None,
    ),
    "a bot that looks like SQL": ("GET", "/v1/bots/x'--/memories", None, 400, "RESOURCE_NAME_INVALID"),
    "a memory that is not there": ("GET", "/v1/bots/main/memories/none", None, 404, "MEMORY_NOT_FOUND"),
    "no text": ("POST", "/v1/bots/main/memories", b"", 400, "FIELD_INVALID"),
}


@pytest.mark.parametrize("case", BAD)
async def test_bad_input_is_a_clear_refusal(rest, case):
    verb, path, body, status, reason = BAD[case]
    answer = await rest.request(verb, path, content=body)

    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["message"]
    if reason:
        assert answer.json()["error"]["reason"] == reason


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Basic secret", "secret", "Bearer"])
async def test_nobody_gets_in_without_the_token(real, header):
    headers = {"Authorization": header} if header else {}
    async with httpx.AsyncClient(base_url=real.http, headers=headers) as client:
        answer = await client.get("/v1/bots/main/memories")

    assert (answer.status_code, answer.json()["error"]["reason"]) == (401, "UNAUTHENTICATED")
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_body_without_end_is_cut_off(rest):
    async def endless():
        for _ in range(400):
            yield b" " * 65_536

    answer = await rest.post("/v1/bots/main/memories", content=endless())
    assert answer.status_code == 413


async def test_the_socket_serves_the_same_calls(real):
    async with real.client() as client:
        put = await client.call("mobot.memory.put", {"draft": {"memory": {"text": "the sky is blue"}}})
        found = await client.call("mobot.memory.search", {"agentId": "main", "query": "sky", "mode": "TEXT"})
        other = await client.call("mobot.memory.list", {"agentId": "helper"})
        refused = await client.refusal("mobot.memory.list", {"filtre": {}})
        missing = await client.refusal("mobot.memory.get", {"name": "bots/main/memories/none"})

    assert found["hits"][0]["memory"]["name"] == put["result"]["memory"]["name"]
    assert other.get("memories", []) == []
    assert "filtre" in refused["message"]
    assert missing["details"]["reason"] == "memory-not-found"


async def test_a_memory_goes_out_and_comes_in_as_lines(rest):
    for text in ("the sky is blue", "grass is 緑"):
        await put(rest, text)
    exported = await rest.get("/v1/bots/main/memories:export?includeVersions=true")
    assert exported.headers["content-type"] == "application/x-ndjson"
    lines = exported.text.splitlines()
    to = "/v1/bots/helper/memories:import"
    dry = (await rest.post(f"{to}?dryRun=true", content=exported.content)).json()
    bad = (await rest.post(to, content=b"{}\nno JSON\n" + exported.content)).json()
    again = (await rest.post(f"{to}?conflict=replace", content=exported.content)).json()
    broken = await rest.post(to, content=b'{"memory": {"text": "\xff"}}\n')
    unknown = await rest.post(f"{to}?conflict=perhaps", content=exported.content)
    listed = (await rest.get("/v1/bots/helper/memories")).json()["memories"]

    assert (dry["createdCount"], dry.get("applied", False)) == ("4", False)  # each with its version
    assert (bad["createdCount"], bad["failedCount"]) == ("4", "2")
    assert [failure["recordNumber"] for failure in bad["failures"]] == ["1", "2"]
    assert again["unchangedCount"] == again["readCount"] == str(len(lines))
    assert (broken.status_code, broken.json()["error"]["violations"][0]["description"]) == (400, "line 1 is not UTF-8")
    assert unknown.status_code == 400
    assert sorted(memory["text"] for memory in listed) == ["grass is 緑", "the sky is blue"]


async def test_the_socket_takes_the_options_of_an_import_beside_its_lines_or_in_their_field(real):
    async with real.client() as client:
        await client.call("mobot.memory.put", {"draft": {"memory": {"text": "the sky is blue"}}})
        frame = await client.call("mobot.memory.export", {"agentId": "main"})
        lines = frame["lines"]
        while token := frame.get("resumeToken"):
            frame = await client.call("mobot.memory.export", {"agentId": "main", "resumeToken": token})
            lines += frame.get("lines", [])
        inside = await client.call("mobot.memory.import", {"options": {"parent": "bots/helper"}, "lines": lines})
        beside = await client.call("mobot.memory.import", {"agentId": "helper", "conflict": "SKIP", "lines": lines})
        refused = [
            await client.refusal("mobot.memory.import", {"options": {"parent": "bots/helper"}, "lines": "no list"}),
            await client.refusal("mobot.memory.import", {"options": "bots/helper", "lines": []}),
            await client.refusal("mobot.memory.import", {"options": {"colour": "red"}, "lines": []}),
        ]
        own = await client.call("mobot.memory.list", {"agentId": "main"})

    assert (inside["createdCount"], beside["unchangedCount"]) == ("1", "2")
    assert all(field in error["message"] for field, error in zip(("lines", "options", "colour"), refused, strict=True))
    assert len(own["memories"]) == 1


async def test_who_may_only_read_may_not_write(real):
    async with real.client(scopes=["operator.read"]) as client:
        await client.call("mobot.memory.list")
        refused = await client.refusal("mobot.memory.put", {"draft": {"memory": {"text": "x"}}})

    assert refused["details"]["missingScope"] == "operator.write"


async def test_mail_is_sent_and_looked_at_over_http(rest):
    sent = await rest.post(
        "/v1/messages", json={"message": {"session": "bots/main/sessions/a", "parts": [{"text": "hi"}]}}
    )
    receipt = sent.json()["receipt"]
    got = (await rest.get(f"/v1/{receipt['message']}")).json()["message"]
    waited = (await rest.get(f"/v1/runs/{receipt['run']}:wait?timeout=0.01s")).json()
    listed = (await rest.get("/v1/messages?filter.bot=bots/main&filter.states=queued")).json()
    cancelled = (await rest.post(f"/v1/runs/{receipt['run']}:cancel")).json()

    assert got["state"] == "MESSAGE_STATE_QUEUED"
    assert not waited.get("done", False)
    assert [message["run"] for message in listed["messages"]] == [receipt["run"]]
    assert cancelled["cancelledRuns"] == [receipt["run"]]


async def test_templates_are_kept_and_a_former_transcript_is_gone_back_to(real):
    async with real.client() as client:
        kept = {"templateId": "daily", "template": {"session": {"description": "numbers"}, "opening": "Good morning."}}
        await client.call("mobot.sessions.templates.create", kept)
        listed = await client.call("mobot.sessions.templates.list")
        await client.call("mobot.sessions.templates.delete", {"name": "templates/daily"})
        gone = await client.refusal("mobot.sessions.templates.get", {"name": "templates/daily"})
        made = await client.call("sessions.create", {"key": "a"})
        await client.call("sessions.reset", {"key": "a"})
        name = "bots/main/sessions/a"
        back = await client.call("mobot.sessions.reset", {"name": name, "restoreUid": made["sessionId"]})

    assert [template["name"] for template in listed["templates"]] == ["templates/daily"]
    assert gone["details"]["reason"] == "template-not-found"
    assert back["session"]["uid"] == made["sessionId"]


async def test_the_openapi_document_tells_every_call(rest):
    document = (await rest.get("/v1/openapi.json")).json()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    text = json.dumps(document)

    assert len(operations) == len(ENDPOINTS)
    for reference in re.findall(r'"#/components/schemas/([^"]+)"', text):
        assert document["components"]["schemas"][reference]


def test_no_two_calls_share_an_address_or_a_name():
    assert len({(each.verb, each.template) for each in ENDPOINTS}) == len(ENDPOINTS)
    assert len({each.method for each in ENDPOINTS}) == len(ENDPOINTS)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.method)
def test_every_row_names_fields_that_the_contract_has(endpoint):
    _, fields = pattern_of(endpoint.template)
    for path in fields:
        at = endpoint.message_of("options") if endpoint.rpc == "ImportMemories" else endpoint.request
        for name in path.split("."):
            at = at.fields_by_name[name].message_type
    if endpoint.body not in ("", "*"):
        assert endpoint.body in endpoint.request.fields_by_name


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.method)
def test_every_call_is_documented(endpoint):
    page = (Path(__file__).parents[3] / "docs" / "rest.md").read_text()
    assert f"`{endpoint.verb} {endpoint.template}`" in page
    assert f"`{endpoint.method}`" in page
