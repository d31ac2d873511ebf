"""Listing memories over the wire: order, pages and filters."""

from datetime import timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import ListValue, Value
from google.protobuf.timestamp_pb2 import Timestamp
from memory_world import World, pb, refusal, struct

from mobot.memory.v1 import memory_pb2


async def pages(world: World, size: int, **fields) -> list[list[str]]:
    """All pages, as texts."""
    found: list[list[str]] = []
    token = ""
    while True:
        response = await world.stub.ListMemories(
            pb.ListMemoriesRequest(parent="bots/main", page_size=size, page_token=token, **fields)
        )
        found.append([memory.text for memory in response.memories])
        token = response.next_page_token
        if not token:
            return found


async def test_the_newest_come_first(world: World):
    for text in ("one", "two", "three"):
        await world.put(text)
        world.pass_time(1)
    assert await world.listed() == ["three", "two", "one"]


async def test_an_empty_namespace_is_an_empty_page(world: World):
    response = await world.stub.ListMemories(pb.ListMemoriesRequest(parent="bots/nobody"))
    assert (list(response.memories), response.next_page_token) == ([], "")


ORDERS = [
    ("", "cba"),
    ("create_time", "abc"),
    ("update_time desc", "acb"),
    ("event_time", "bac"),
    ("use_time desc", "bac"),
    ("expire_time", "cab"),
    ("importance desc", "cab"),
    ("importance", "bac"),
    ("name desc", "cba"),
    ("name", "abc"),
]


async def test_every_order_is_kept_over_pages(world: World):
    event = Timestamp()
    event.FromJsonString("1999-01-01T00:00:00Z")
    await world.put("a", memory_id="A", importance=0.5)
    world.pass_time(1)
    await world.put("b", memory_id="B", importance=0.1, event_time=event)
    await world.put("b")
    world.pass_time(1)
    await world.put("c", memory_id="a", importance=0.9, ttl=Duration(seconds=1000))
    world.pass_time(1)
    await world.update(memory_pb2.Memory(name="bots/main/memories/A", author="x"))
    for order_by, expected in ORDERS:
        assert await pages(world, 2, order_by=order_by) == [[*expected[:2]], [*expected[2:]]], order_by


async def test_pages_of_equal_keys_miss_nothing_and_repeat_nothing(world: World):
    for number in range(7):
        await world.put(f"m{number}", memory_id=f"id{number}")
    assert [len(page) for page in await pages(world, 3)] == [3, 3, 1]
    assert [text for page in await pages(world, 3) for text in page] == [f"m{number}" for number in range(7)]


async def test_a_page_token_is_good_for_its_own_query_only(world: World):
    for number in range(3):
        await world.put(f"m{number}")
    first = await world.stub.ListMemories(pb.ListMemoriesRequest(parent="bots/main", page_size=1))
    token = first.next_page_token
    for fields in (
        {"parent": "bots/other"},
        {"parent": "bots/main", "order_by": "name"},
        {"parent": "bots/main", "show_deleted": True},
        {"parent": "bots/main", "filter": memory_pb2.MemoryFilter(run_id="x")},
    ):
        request = pb.ListMemoriesRequest(page_token=token, **fields)
        assert await refusal(world.stub.ListMemories(request)) == ("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID")
    for damaged in (token[:-2], token + "A", "x", "\u00e9", "AAAA" * 20):
        request = pb.ListMemoriesRequest(parent="bots/main", page_token=damaged)
        assert await refusal(world.stub.ListMemories(request)) == ("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID")
    request = pb.ListMemoriesRequest(parent="bots/main", page_token=token, page_size=2)
    assert len((await world.stub.ListMemories(request)).memories) == 2


async def test_page_sizes_are_clamped_and_never_negative(world: World):
    await world.put("m")
    assert await world.listed(page_size=100_000) == ["m"]
    request = pb.ListMemoriesRequest(parent="bots/main", page_size=-1)
    assert await refusal(world.stub.ListMemories(request)) == ("INVALID_ARGUMENT", "FIELD_INVALID")


async def test_the_mark_of_the_state_moves_with_every_change_and_only_then(world: World):
    async def mark() -> str:
        return (await world.stub.ListMemories(pb.ListMemoriesRequest(parent="bots/main"))).as_of

    marks = [await mark()]
    memory = await world.put("tea")
    marks.append(await mark())
    await world.put("other", bot="other")
    assert await mark() == marks[-1]
    await world.put("tea")
    marks.append(await mark())
    await world.delete(memory.name)
    marks.append(await mark())
    assert len(set(marks)) == len(marks)


async def test_deleted_memories_are_listed_on_demand_only(world: World):
    memory = await world.put("tea")
    await world.delete(memory.name)
    assert await world.listed() == []
    assert await world.listed(show_deleted=True) == ["tea"]


async def test_filters_select(world: World):
    now = world.clock.now()
    await world.put(
        "a",
        kind=memory_pb2.MEMORY_KIND_FACT,
        tags=["x", "y"],
        author="Ana",
        importance=0.9,
        pinned=True,
        provenance=memory_pb2.Provenance(
            session="bots/main/sessions/s1", run_id="r1", source=memory_pb2.MEMORY_SOURCE_TOOL
        ),
    )
    world.pass_time(100)
    await world.put("b", kind=memory_pb2.MEMORY_KIND_TASK, tags=["y"], author="ana", importance=0.2)
    await world.put("b")
    await world.put("c", tags=["X"], ttl=Duration(seconds=1000))
    assert await world.selected() == {"a", "b", "c"}
    assert await world.selected(kinds=[memory_pb2.MEMORY_KIND_FACT, memory_pb2.MEMORY_KIND_TASK]) == {"a", "b"}
    assert await world.selected(all_tags=["x", "y"]) == {"a"}
    assert await world.selected(any_tags=["x", "X"]) == {"a", "c"}
    assert await world.selected(all_tags=["y"], any_tags=["X", "y"], kinds=[memory_pb2.MEMORY_KIND_TASK]) == {"b"}
    assert await world.selected(authors=["Ana", "nobody"]) == {"a"}
    assert await world.selected(sessions=["bots/main/sessions/s1"]) == {"a"}
    assert await world.selected(run_id="r1") == {"a"}
    assert await world.selected(sources=[memory_pb2.MEMORY_SOURCE_TOOL]) == {"a"}
    assert await world.selected(pinned=True) == {"a"}
    assert await world.selected(pinned=False) == {"b", "c"}
    assert await world.selected(min_importance=0.5) == {"a", "c"}

    def span(field: int, start: float | None, end: float | None) -> memory_pb2.TimeRange:
        found = memory_pb2.TimeRange(field=field)
        for name, value in (("start_time", start), ("end_time", end)):
            if value is not None:
                getattr(found, name).FromDatetime(now + timedelta(seconds=value))
        return found

    async def within(*spans: memory_pb2.TimeRange) -> set[str]:
        return await world.selected(time_ranges=spans)

    assert await within(span(memory_pb2.TIME_FIELD_CREATE_TIME, None, 100)) == {"a"}
    assert await within(span(memory_pb2.TIME_FIELD_UNSPECIFIED, 100, None)) == {"b", "c"}
    assert await within(span(memory_pb2.TIME_FIELD_UPDATE_TIME, 0, 100)) == {"a"}
    assert await within(span(memory_pb2.TIME_FIELD_USE_TIME, None, None)) == {"b"}
    assert await within(span(memory_pb2.TIME_FIELD_EXPIRE_TIME, None, None)) == {"c"}
    assert await within(span(memory_pb2.TIME_FIELD_EXPIRE_TIME, 0, 1100)) == set()


_OPERATORS = {name.removeprefix("CONDITION_OPERATOR_"): number for name, number in memory_pb2.ConditionOperator.items()}


COMPARISONS = [
    ("size", "EQUAL", 3, "a"),
    ("size", "EQUAL", "3", ""),
    ("size", "NOT_EQUAL", 3, "bcd"),
    ("size", "LESS", 3.5, "a"),
    ("size", "GREATER_OR_EQUAL", 3, "ab"),
    ("size", "LESS_OR_EQUAL", 3, "a"),
    ("size", "GREATER", "0", "c"),
    ("flag", "EQUAL", True, "a"),
    ("flag", "EQUAL", 1, "b"),
    ("project.name", "EQUAL", "x", "a"),
    ("project.name", "CONTAINS", "y", "b"),
    ("project.names", "CONTAINS", "x", "c"),
    ("project.names", "CONTAINS", 1, "c"),
    ("project", "EXISTS", None, "abc"),
    ("nothing", "EXISTS", None, "c"),
    ("project.name", "NOT_EXISTS", None, "cd"),
    ("size", "IN", [3, "ten"], "ac"),
]


async def test_conditions_compare_metadata(world: World):
    await world.put("a", metadata=struct(size=3, flag=True, project={"name": "x"}))
    await world.put("b", metadata=struct(size=10, flag=1, project={"name": "xyz"}))
    await world.put("c", metadata=struct(size="ten", nothing=None, project={"names": ["x", 1]}))
    await world.put("d")
    for path, operator, value, expected in COMPARISONS:
        condition = memory_pb2.MetadataCondition(path=path, operator=_OPERATORS[operator], value=to_value(value))
        assert await world.selected(conditions=[condition]) == set(expected), (path, operator, value)


def to_value(value) -> Value | None:
    match value:
        case None:
            return None
        case list():
            listed = ListValue()
            listed.extend(value)
            return Value(list_value=listed)
        case bool():
            return Value(bool_value=value)
        case str():
            return Value(string_value=value)
        case _:
            return Value(number_value=value)


async def test_conditions_keep_pages_full(world: World):
    for number in range(20):
        await world.put(f"m{number:02}", memory_id=f"m{number:02}", metadata=struct(even=number % 2 == 0))
    condition = memory_pb2.MetadataCondition(
        path="even", operator=memory_pb2.CONDITION_OPERATOR_EQUAL, value=Value(bool_value=True)
    )
    found = await pages(world, 4, order_by="name", filter=memory_pb2.MemoryFilter(conditions=[condition]))
    assert [len(page) for page in found] == [4, 4, 2]
    assert [text for page in found for text in page] == [f"m{number:02}" for number in range(0, 20, 2)]


async def test_figures_count_what_is_there(world: World):
    memory = await world.put("täglich", kind=memory_pb2.MEMORY_KIND_FACT, context="x")
    await world.put("b")
    gone = await world.put("c")
    await world.delete(gone.name)
    await world.update(memory_pb2.Memory(name=memory.name, author="x"))
    await world.put("d", bot="other")
    await world.put_block("persona", text="kind")
    stats = await world.stats()
    assert (stats.memory_count, stats.deleted_count, stats.block_count, stats.bot_count) == (2, 1, 1, 1)
    assert stats.text_bytes == len("täglich".encode()) + 2
    assert stats.version_count == 2
    assert stats.vector_backlog_count == 2
    assert stats.vector_backlog_time == memory.create_time
    assert {kind.kind: kind.count for kind in stats.kinds} == {
        memory_pb2.MEMORY_KIND_FACT: 1,
        memory_pb2.MEMORY_KIND_NOTE: 1,
    }
    everything = await world.stats("bots/-")
    assert (everything.memory_count, everything.bot_count) == (3, 2)
    assert (await world.stats("bots/nobody")).memory_count == 0
