"""What breaks a rule of the contract is refused with the field it is about, and changes nothing."""

import math

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp
from memory_world import SECRET, World, draft, pb, put_request, refused, struct

from chassis.channel import Dialer
from mobot.memory.v1 import memory_pb2

Memory = memory_pb2.Memory
PAST = Timestamp(seconds=1)


def nested(levels: int) -> Struct:
    document: dict = {}
    for _ in range(levels - 1):
        document = {"x": document}
    return struct(**document)


def number(value: float) -> Struct:
    return Struct(fields={"x": Value(number_value=value)})


PUTS = [
    ("empty", {"text": ""}, "FIELD_INVALID", "draft.memory.text"),
    ("white space", {"text": " \n\u3000"}, "FIELD_INVALID", "draft.memory.text"),
    ("nul", {"text": "a\0b"}, "FIELD_INVALID", "draft.memory.text"),
    ("too long", {"text": "x" * 32_769}, "MEMORY_TEXT_TOO_LONG", "draft.memory.text"),
    ("too many bytes", {"text": "é" * 16_385}, "MEMORY_TEXT_TOO_LONG", "draft.memory.text"),
    ("unknown kind", {"kind": 99}, "FIELD_INVALID", "draft.memory.kind"),
    ("negative kind", {"kind": -1}, "FIELD_INVALID", "draft.memory.kind"),
    ("many tags", {"tags": [f"t{n}" for n in range(33)]}, "FIELD_INVALID", "draft.memory.tags"),
    ("empty tag", {"tags": ["a", ""]}, "FIELD_INVALID", "draft.memory.tags[1]"),
    ("long tag", {"tags": ["x" * 65]}, "FIELD_INVALID", "draft.memory.tags[0]"),
    ("nul tag", {"tags": ["\0"]}, "FIELD_INVALID", "draft.memory.tags[0]"),
    ("same tag twice", {"tags": ["a", "b", "a"]}, "FIELD_INVALID", "draft.memory.tags"),
    ("long author", {"author": "x" * 129}, "FIELD_INVALID", "draft.memory.author"),
    ("nul author", {"author": "\0"}, "FIELD_INVALID", "draft.memory.author"),
    ("importance above 1", {"importance": 1.01}, "FIELD_INVALID", "draft.memory.importance"),
    ("negative importance", {"importance": -0.1}, "FIELD_INVALID", "draft.memory.importance"),
    ("importance not a number", {"importance": math.nan}, "FIELD_INVALID", "draft.memory.importance"),
    ("endless importance", {"importance": math.inf}, "FIELD_INVALID", "draft.memory.importance"),
    ("long context", {"context": "x" * 8_193}, "FIELD_INVALID", "draft.memory.context"),
    ("nul context", {"context": "\0"}, "FIELD_INVALID", "draft.memory.context"),
    ("10 MB metadata", {"metadata": struct(x="y" * 10_000_000)}, "MEMORY_METADATA_TOO_LARGE", "draft.memory.metadata"),
    ("deep metadata", {"metadata": nested(9)}, "MEMORY_METADATA_TOO_LARGE", "draft.memory.metadata"),
    ("nan metadata", {"metadata": number(math.nan)}, "FIELD_INVALID", "draft.memory.metadata"),
    ("endless metadata", {"metadata": number(math.inf)}, "FIELD_INVALID", "draft.memory.metadata"),
    ("past expiry", {"expire_time": PAST}, "FIELD_INVALID", "draft.memory.expire_time"),
    ("no time", {"event_time": Timestamp(nanos=-1)}, "FIELD_INVALID", "draft.memory.event_time"),
    ("year 10000", {"event_time": Timestamp(seconds=253_402_300_800)}, "FIELD_INVALID", "draft.memory.event_time"),
    ("zero ttl", {"ttl": Duration()}, "FIELD_INVALID", "draft.ttl"),
    ("negative ttl", {"ttl": Duration(seconds=-5)}, "FIELD_INVALID", "draft.ttl"),
    ("long ttl", {"ttl": Duration(seconds=36_501 * 86_400)}, "FIELD_INVALID", "draft.ttl"),
    (
        "ttl and expiry",
        {"ttl": Duration(seconds=5), "expire_time": Timestamp(seconds=9_999_999_999)},
        "FIELD_INVALID",
        "draft.ttl",
    ),
    ("unknown dedupe", {"dedupe": 9}, "FIELD_INVALID", "draft.dedupe"),
    ("many near duplicates", {"near_duplicate_limit": 11}, "FIELD_INVALID", "draft.near_duplicate_limit"),
    ("negative near duplicates", {"near_duplicate_limit": -1}, "FIELD_INVALID", "draft.near_duplicate_limit"),
    ("path as id", {"memory_id": "../x"}, "RESOURCE_NAME_INVALID", "draft.memory_id"),
    ("dots in id", {"memory_id": "a..b"}, "RESOURCE_NAME_INVALID", "draft.memory_id"),
    ("slash in id", {"memory_id": "a/b"}, "RESOURCE_NAME_INVALID", "draft.memory_id"),
    ("control in id", {"memory_id": "a\nb"}, "RESOURCE_NAME_INVALID", "draft.memory_id"),
    ("long id", {"memory_id": "x" * 129}, "RESOURCE_NAME_INVALID", "draft.memory_id"),
    ("look-alike id", {"memory_id": "m\u0430in"}, "RESOURCE_NAME_INVALID", "draft.memory_id"),
    ("wildcard id", {"memory_id": "-"}, "RESOURCE_NAME_INVALID", "draft.memory_id"),
    (
        "bad session",
        {"provenance": memory_pb2.Provenance(session="agent:main:x")},
        "RESOURCE_NAME_INVALID",
        "draft.memory.provenance.session",
    ),
    (
        "negative sequence",
        {"provenance": memory_pb2.Provenance(event_sequence=-1)},
        "FIELD_INVALID",
        "draft.memory.provenance.event_sequence",
    ),
    (
        "long run",
        {"provenance": memory_pb2.Provenance(run_id="x" * 129)},
        "FIELD_INVALID",
        "draft.memory.provenance.run_id",
    ),
    (
        "nul session uid",
        {"provenance": memory_pb2.Provenance(session_uid="\0")},
        "FIELD_INVALID",
        "draft.memory.provenance.session_uid",
    ),
    (
        "unknown source",
        {"provenance": memory_pb2.Provenance(source=77)},
        "FIELD_INVALID",
        "draft.memory.provenance.source",
    ),
    ("long request id", {"request_id": "x" * 129}, "FIELD_INVALID", "request_id"),
    ("nul request id", {"request_id": "\0"}, "FIELD_INVALID", "request_id"),
    ("no bot", {"bot": ""}, "RESOURCE_NAME_INVALID", "parent"),
    ("every bot", {"bot": "-"}, "RESOURCE_NAME_INVALID", "parent"),
    ("sql as bot", {"bot": "x'; DROP TABLE memory; --"}, "RESOURCE_NAME_INVALID", "parent"),
    ("capital bot", {"bot": "Main"}, "RESOURCE_NAME_INVALID", "parent"),
    ("look-alike bot", {"bot": "m\u0430in"}, "RESOURCE_NAME_INVALID", "parent"),
    ("path as bot", {"bot": "../main"}, "RESOURCE_NAME_INVALID", "parent"),
    ("nul in bot", {"bot": "main\0"}, "RESOURCE_NAME_INVALID", "parent"),
]


async def test_bad_puts_are_refused(world: World):
    for name, fields, reason, field in PUTS:
        error = await refused(world.stub.PutMemory(put_request(**{"text": "tea", **fields})))
        assert (error.code, error.reason, error.metadata["field"]) == ("INVALID_ARGUMENT", reason, field), name
        assert error.violations[0].field == field, name
    assert (await world.stats("bots/-")).memory_count == 0


async def test_a_put_without_a_memory_is_refused(world: World):
    error = await refused(world.stub.PutMemory(pb.PutMemoryRequest(parent="bots/main")))
    assert error.metadata["field"] == "draft.memory"


async def test_what_is_just_allowed_is_stored(world: World):
    memory = await world.put(
        "é" * 16_384,
        tags=[f"{n:064}" for n in range(32)],
        author="é" * 128,
        importance=1.0,
        context="x" * 8_192,
        metadata=nested(8),
        memory_id="x" * 128,
        ttl=Duration(seconds=36_500 * 86_400),
    )
    assert await world.get(memory.name) == memory


async def test_a_batch_is_bounded_in_bytes(world: World):
    drafts = [draft(f"{n}" + "x" * 32_000) for n in range(600)]
    error = await refused(world.stub.BatchPutMemories(pb.BatchPutMemoriesRequest(parent="bots/main", drafts=drafts)))
    assert (error.reason, error.metadata["field"]) == ("FIELD_INVALID", "drafts")


NAMES = [
    "",
    "m1",
    "bots/main",
    "bots/main/memories/",
    "bots/main/memories/..",
    "bots/main/memories/a/b",
    "bots//memories/m1",
    "bots/main/Memories/m1",
    "bots/main/memories/m1\0",
    "bots/main/memories/" + "x" * 129,
    "bots/m\u0430in/memories/m1",
    "bots/main/memories/m1 ",
    "/bots/main/memories/m1",
]


async def test_bad_names_are_refused_by_every_call(world: World):
    for name in NAMES:
        for call in (
            world.stub.GetMemory(pb.GetMemoryRequest(name=name)),
            world.stub.UpdateMemory(pb.UpdateMemoryRequest(memory=Memory(name=name, text="x"))),
            world.stub.DeleteMemory(pb.DeleteMemoryRequest(name=name)),
            world.stub.UndeleteMemory(pb.UndeleteMemoryRequest(name=name)),
            world.stub.ListMemoryVersions(pb.ListMemoryVersionsRequest(parent=name)),
            world.stub.RestoreMemoryVersion(pb.RestoreMemoryVersionRequest(name=f"{name}/versions/1")),
        ):
            error = await refused(call)
            assert (error.code, error.reason) == ("INVALID_ARGUMENT", "RESOURCE_NAME_INVALID"), name


async def test_bad_version_names_are_refused(world: World):
    await world.put("tea", memory_id="m1")
    for version in ("", "0", "-1", "x", "01", "1/", "9" * 30, "\u0661"):
        request = pb.RestoreMemoryVersionRequest(name=f"bots/main/memories/m1/versions/{version}")
        assert (await refused(world.stub.RestoreMemoryVersion(request))).reason == "RESOURCE_NAME_INVALID", version


def condition(path: str = "x", operator: int = 1, value: Value | None = None) -> dict:
    return {"conditions": [memory_pb2.MetadataCondition(path=path, operator=operator, value=value)]}


def listed(*values: Value) -> Value:
    return Value(list_value=ListValue(values=values))


ONE = Value(number_value=1)
FILTERS = [
    ("unknown kind", {"kinds": [0]}, "FILTER_INVALID", "filter.kinds[0]"),
    ("unknown source", {"sources": [99]}, "FILTER_INVALID", "filter.sources[0]"),
    ("many tags", {"all_tags": ["x"] * 33}, "FIELD_INVALID", "filter.all_tags"),
    ("empty tag", {"any_tags": [""]}, "FIELD_INVALID", "filter.any_tags[0]"),
    ("nul author", {"authors": ["\0"]}, "FIELD_INVALID", "filter.authors[0]"),
    ("many authors", {"authors": ["x"] * 33}, "FIELD_INVALID", "filter.authors"),
    ("bad session", {"sessions": ["x"]}, "RESOURCE_NAME_INVALID", "filter.sessions[0]"),
    ("many sessions", {"sessions": ["bots/a/sessions/b"] * 101}, "FIELD_INVALID", "filter.sessions"),
    ("nul run", {"run_id": "\0"}, "FIELD_INVALID", "filter.run_id"),
    ("importance", {"min_importance": 2}, "FIELD_INVALID", "filter.min_importance"),
    ("importance nan", {"min_importance": math.nan}, "FIELD_INVALID", "filter.min_importance"),
    ("many ranges", {"time_ranges": [memory_pb2.TimeRange()] * 9}, "FIELD_INVALID", "filter.time_ranges"),
    (
        "unknown time",
        {"time_ranges": [memory_pb2.TimeRange(field=9)]},
        "FILTER_INVALID",
        "filter.time_ranges[0].field",
    ),
    (
        "empty range",
        {"time_ranges": [memory_pb2.TimeRange(start_time=PAST, end_time=PAST)]},
        "FILTER_INVALID",
        "filter.time_ranges[0].end_time",
    ),
    ("no path", condition(path="", value=ONE), "FILTER_INVALID", "filter.conditions[0].path"),
    ("empty key", condition(path="a..b", value=ONE), "FILTER_INVALID", "filter.conditions[0].path"),
    ("sql path", condition(path="a') OR 1=1 --", value=ONE), "FILTER_INVALID", "filter.conditions[0].path"),
    ("deep path", condition(path="a.b.c.d.e.f.g.h.i", value=ONE), "FILTER_INVALID", "filter.conditions[0].path"),
    ("no operator", condition(operator=0, value=ONE), "FILTER_INVALID", "filter.conditions[0].operator"),
    ("unknown operator", condition(operator=99, value=ONE), "FILTER_INVALID", "filter.conditions[0].operator"),
    ("no value", condition(), "FILTER_INVALID", "filter.conditions[0].value"),
    ("null value", condition(value=Value(null_value=0)), "FILTER_INVALID", "filter.conditions[0].value"),
    ("nan value", condition(value=Value(number_value=math.nan)), "FILTER_INVALID", "filter.conditions[0].value"),
    ("list for equal", condition(value=listed(ONE)), "FILTER_INVALID", "filter.conditions[0].value"),
    ("scalar for in", condition(operator=8, value=ONE), "FILTER_INVALID", "filter.conditions[0].value"),
    ("empty in", condition(operator=8, value=listed()), "FILTER_INVALID", "filter.conditions[0].value"),
    ("long in", condition(operator=8, value=listed(*[ONE] * 101)), "FILTER_INVALID", "filter.conditions[0].value"),
    ("list in in", condition(operator=8, value=listed(listed())), "FILTER_INVALID", "filter.conditions[0].value[0]"),
    ("value for exists", condition(operator=9, value=ONE), "FILTER_INVALID", "filter.conditions[0].value"),
    (
        "order of booleans",
        condition(operator=3, value=Value(bool_value=True)),
        "FILTER_INVALID",
        "filter.conditions[0].value",
    ),
]


async def test_bad_filters_are_refused_by_list_and_search(world: World):
    for name, fields, reason, field in FILTERS:
        selected = memory_pb2.MemoryFilter(**fields)
        for call in (
            world.stub.ListMemories(pb.ListMemoriesRequest(parent="bots/main", filter=selected)),
            world.search("tea", filter=selected),
        ):
            error = await refused(call)
            assert (error.code, error.reason, error.metadata["field"]) == ("INVALID_ARGUMENT", reason, field), name


async def test_bad_orders_are_refused(world: World):
    for order_by in ("colour", "name asc", "name DESC", "create_time,name", " ", "name  desc", "1"):
        request = pb.ListMemoriesRequest(parent="bots/main", order_by=order_by)
        error = await refused(world.stub.ListMemories(request))
        assert (error.reason, error.metadata["field"]) == ("FILTER_INVALID", "order_by"), order_by


SEARCHES = [
    ("no query", {"query": ""}, "QUERY_EMPTY", "query"),
    ("blank query", {"query": " \n"}, "QUERY_EMPTY", "query"),
    ("long query", {"query": "x" * 4_097}, "FIELD_INVALID", "query"),
    ("nul query", {"query": "tea\0"}, "FIELD_INVALID", "query"),
    ("unknown mode", {"mode": 42}, "FIELD_INVALID", "mode"),
    ("weight", {"weights": pb.SearchWeights(text=11)}, "FIELD_INVALID", "weights.text"),
    ("negative weight", {"weights": pb.SearchWeights(author=-1)}, "FIELD_INVALID", "weights.author"),
    ("nan weight", {"weights": pb.SearchWeights(recency=math.nan)}, "FIELD_INVALID", "weights.recency"),
    (
        "half life",
        {"weights": pb.SearchWeights(recency_half_life=Duration())},
        "FIELD_INVALID",
        "weights.recency_half_life",
    ),
    ("score", {"min_score": 1.5}, "FIELD_INVALID", "min_score"),
    ("nan score", {"min_score": math.nan}, "FIELD_INVALID", "min_score"),
    ("page", {"page_size": -1}, "FIELD_INVALID", "page_size"),
    ("token", {"page_token": "x"}, "PAGE_TOKEN_INVALID", "page_token"),
    ("bot", {"bot": "x y"}, "RESOURCE_NAME_INVALID", "parent"),
]


async def test_bad_searches_are_refused(world: World):
    for name, fields, reason, field in SEARCHES:
        error = await refused(world.search(**{"query": "tea", **fields}))
        assert (error.code, error.reason, error.metadata["field"]) == ("INVALID_ARGUMENT", reason, field), name


async def test_a_bad_value_in_an_update_changes_nothing(world: World):
    before = await world.put("tea", memory_id="m1")
    for fields, reason in (
        ({"text": "x" * 40_000}, "MEMORY_TEXT_TOO_LONG"),
        ({"text": "a\0"}, "FIELD_INVALID"),
        ({"text": "\t "}, "FIELD_INVALID"),
        ({"metadata": nested(9)}, "MEMORY_METADATA_TOO_LARGE"),
        ({"importance": 3.0}, "FIELD_INVALID"),
        ({"tags": ["a", "a"]}, "FIELD_INVALID"),
        ({"expire_time": PAST}, "FIELD_INVALID"),
        ({"etag": "x" * 200}, "FIELD_INVALID"),
    ):
        error = await refused(world.update(Memory(name=before.name, **fields)))
        assert (error.code, error.reason) == ("INVALID_ARGUMENT", reason)
    assert (await refused(world.update(Memory(name=before.name), "text"))).reason == "FIELD_INVALID"
    assert (await refused(world.stub.UpdateMemory(pb.UpdateMemoryRequest()))).metadata["field"] == "memory"
    assert await world.get(before.name) == before


async def test_bytes_that_are_no_utf8_are_refused_and_store_nothing(world: World):
    if world.transport == "local":
        pytest.skip("what is no message cannot be handed over without a socket")
    dialer = Dialer({"memory": world.target}, token=SECRET, actor=None)
    world.dialers.append(dialer)
    call = dialer.dial("memory").unary_unary("/mobot.memory.v1.MemoryService/PutMemory")
    memory = b"\x12\x02\xc3\x28"  # text = an invalid sequence
    draft = b"\x0a" + bytes([len(memory)]) + memory
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"\x0a\x09bots/main\x12" + bytes([len(draft)]) + draft)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == "what was sent is not a message of this call"
    assert (await world.stats()).memory_count == 0
    assert (await world.put("tea")).text == "tea"
