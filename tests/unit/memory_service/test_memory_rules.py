"""What may be done to memories and blocks."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from chassis.errors import PermissionDenied
from memory_service.domain import access
from memory_service.domain import block as block_rules
from memory_service.domain import memory as rules
from memory_service.domain.block import Block, BlockContent, BlockPatch
from memory_service.domain.errors import (
    BlockReadOnly,
    BlockTextTooLong,
    EtagMismatch,
    MemoryDeleted,
    MemoryNotDeleted,
)
from memory_service.domain.memory import (
    ChangeKind,
    Content,
    Dedupe,
    Kind,
    Memory,
    Outcome,
    Provenance,
    Source,
    VectorState,
    text_key,
)
from memory_service.domain.search import excerpt
from memory_service.domain.selection import Condition, Operator, TimeField, meets
from mobot.memory.v1 import memory_pb2

T0 = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def memory() -> Memory:
    return Memory("main", "m1", "0198-aaaaaaaaaaaaaaaa", Content("tea"), Provenance(), T0, T0)


@pytest.mark.parametrize(
    ("ours", "theirs", "prefix"),
    [
        (Kind, memory_pb2.MemoryKind, "MEMORY_KIND_"),
        (VectorState, memory_pb2.VectorState, "VECTOR_STATE_"),
        (Source, memory_pb2.MemorySource, "MEMORY_SOURCE_"),
        (ChangeKind, memory_pb2.ChangeKind, "CHANGE_KIND_"),
        (Dedupe, memory_pb2.DedupeMode, "DEDUPE_MODE_"),
        (Outcome, memory_pb2.PutOutcome, "PUT_OUTCOME_"),
        (TimeField, memory_pb2.TimeField, "TIME_FIELD_"),
        (Operator, memory_pb2.ConditionOperator, "CONDITION_OPERATOR_"),
    ],
)
def test_numbers_are_those_of_the_contract(ours, theirs, prefix: str):
    named = {prefix + member.name: member.value for member in ours}
    assert named == {name: number for name, number in theirs.items() if number}


def test_texts_are_the_same_after_normalisation_and_folding_of_space():
    assert text_key(" Cafe\u0301\n au\u3000lait ") == text_key("Café au lait")
    assert text_key("cafe au lait") != text_key("Café au lait")
    assert text_key("ab") != text_key("a b")


def test_a_change_of_content_is_a_new_version(memory: Memory):
    after = rules.update(memory, replace(memory.content, author="Ana"), "bots/main", T0 + DAY)
    assert (after.version, after.change, after.changed_by) == (2, ChangeKind.UPDATE, "bots/main")
    assert after.update_time == T0 + DAY
    assert after.etag != memory.etag
    assert rules.update(memory, replace(memory.content), "x", T0 + DAY) is memory


def test_deleting_hides_until_undeleted(memory: Memory):
    deleted = rules.delete(memory, 30 * DAY, "x", T0)
    assert (deleted.is_deleted, deleted.purge_time) == (True, T0 + 30 * DAY)
    assert rules.delete(deleted, DAY, "x", T0 + DAY) is deleted
    with pytest.raises(MemoryDeleted):
        rules.update(deleted, Content("x"), "x", T0)
    back = rules.undelete(deleted, "x", T0)
    assert (back.is_deleted, back.purge_time, back.content) == (False, None, memory.content)
    with pytest.raises(MemoryNotDeleted):
        rules.undelete(back, "x", T0)


def test_restoring_brings_content_back_but_no_expiry_that_has_passed(memory: Memory):
    dated = replace(memory, content=replace(memory.content, expire_time=T0 + DAY))
    present = rules.update(dated, Content("coffee", expire_time=T0 + 9 * DAY), "x", T0)
    early = rules.restore(present, dated, "x", T0)
    late = rules.restore(present, dated, "x", T0 + 2 * DAY)
    assert early.content == dated.content
    assert late.content == replace(dated.content, expire_time=T0 + 9 * DAY)
    assert rules.restore(present, present, "x", T0) is present


def test_a_touch_counts_and_only_moves_the_expiry_on(memory: Memory):
    dated = replace(memory, content=replace(memory.content, expire_time=T0 + DAY))
    assert rules.touch(dated, T0, T0).content.expire_time == T0 + DAY
    assert rules.touch(dated, T0 + 2 * DAY, T0).content.expire_time == T0 + 2 * DAY
    assert rules.touch(dated, None, T0).content.expire_time is None
    assert rules.touch(memory, T0, T0).content.expire_time is None
    touched = rules.touch(memory, None, T0 + DAY)
    assert (touched.use_count, touched.use_time, touched.version) == (1, T0 + DAY, 1)


def test_what_is_pinned_does_not_expire(memory: Memory):
    dated = replace(memory, content=Content("tea", expire_time=T0))
    assert dated.is_expired(T0)
    assert not dated.is_expired(T0 - timedelta(microseconds=1))
    assert not replace(dated, content=replace(dated.content, pinned=True)).is_expired(T0 + DAY)


def test_an_etag_must_fit_when_given(memory: Memory):
    rules.check_etag(memory, "")
    rules.check_etag(memory, memory.etag)
    with pytest.raises(EtagMismatch):
        rules.check_etag(memory, memory.etag + "x")


def test_values_of_unlike_types_are_neither_equal_nor_ordered():
    metadata = '{"n":1,"s":"1","t":true,"z":null,"l":[1,"a",[2]],"o":{"n":2}}'

    def holds(path: str, operator: Operator, *values) -> bool:
        return meets((Condition(tuple(path.split(".")), operator, values),), metadata)

    assert holds("n", Operator.EQUAL, 1.0)
    assert not holds("n", Operator.EQUAL, True)
    assert not holds("t", Operator.EQUAL, 1.0)
    assert not holds("s", Operator.GREATER, 0.0)
    assert not holds("t", Operator.GREATER_OR_EQUAL, 1.0)
    assert holds("z", Operator.EXISTS)
    assert not holds("n.x", Operator.EXISTS)
    assert holds("o.n", Operator.IN, "x", 2.0)
    assert holds("l", Operator.CONTAINS, "a")
    assert not holds("l", Operator.CONTAINS, True)
    assert not holds("n", Operator.CONTAINS, 1.0)
    assert holds("nothing", Operator.NOT_EQUAL, 1.0)
    assert not meets((Condition(("n",), Operator.EXISTS),), "")


def test_an_excerpt_is_bounded_and_holds_the_whole_word_it_is_about():
    text = "teapot " * 300 + "İ" * 50 + " and then tea " + "x " * 400
    assert " tea " in excerpt(text, ["tea"])
    assert len(excerpt(text, ["tea"])) == 400
    assert excerpt(text, ["absent"]) == text[:400]
    assert excerpt("short", ["x"]) == "short"


def test_access_is_for_the_bot_itself_and_for_those_who_are_trusted():
    assert access.owns("bots/a", "a")
    assert not access.owns("bots/a", "b")
    assert access.owns("operators/x", "b")
    assert access.owns("services/router", "b")
    assert access.readable("bots/a", "b") == access.NOBODY
    for actor in ("workers/w", "bots/", "a", ""):
        with pytest.raises(PermissionDenied):
            access.owns(actor, "a")


def test_blocks_hold_no_more_than_they_may():
    block = Block("main", "persona", "u", BlockContent("12345", max_characters=5), T0, T0)
    with pytest.raises(BlockTextTooLong):
        block_rules.put(block, BlockPatch(text="123456").applied_to(block.content), "x", T0)
    with pytest.raises(BlockTextTooLong):
        block_rules.put(block, BlockPatch(max_characters=4).applied_to(block.content), "x", T0)
    assert block_rules.put(block, BlockPatch().applied_to(block.content), "x", T0) is block
    with pytest.raises(BlockReadOnly):
        block_rules.check_writable("b", BlockContent(read_only=True), None, trusted=False)
    block_rules.check_writable("b", BlockContent(read_only=True), None, trusted=True)
