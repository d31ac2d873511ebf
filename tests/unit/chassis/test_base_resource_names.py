"""The grammar of resource names and session keys."""

import pytest

from chassis import resource_names as names
from chassis.errors import InvalidArgument


@pytest.mark.parametrize("bot", ["a", "main", "0", "a_b-c", "x" * 64])
def test_legal_bot_ids_survive_the_round_trip(bot):
    assert names.parse_bot(names.bot_name(bot)) == bot


@pytest.mark.parametrize(
    "session", ["a", "Main", "thread:x", "a.b", "user@host", "a+b=c~d-e_f", "subagent:0:1", "s" * 256]
)
def test_legal_session_ids_survive_the_round_trip(session):
    name = names.session_name("main", session)
    assert names.parse_session(name) == names.SessionName("main", session)
    assert names.parse_session(name).name == name


@pytest.mark.parametrize(
    ("bot", "rule"),
    [
        ("", "must not be empty"),
        ("Main", "U+004D LATIN CAPITAL LETTER M"),
        ("-a", "must not start with '-'"),
        ("_a", "must not start with '_'"),
        ("a" * 65, "must not be longer than 64 characters (was 65)"),
        ("a.b", "U+002E FULL STOP"),
        ("..", "must not look like a path"),
        ("a\\b", "must not look like a path"),
        ("m\u0430in", "U+0430 CYRILLIC SMALL LETTER A (it looks like 'a' but is another character)"),
        ("\uff41b", "U+FF41 FULLWIDTH LATIN SMALL LETTER A (it looks like 'a' but is another character)"),
        ("caf\u00e9", "U+00E9 LATIN SMALL LETTER E WITH ACUTE (it looks like 'e' but is another character)"),
        ("a\u2011b", "U+2011 NON-BREAKING HYPHEN (it looks like '-' but is another character)"),
        ("a\u200bb", "the invisible character U+200B ZERO WIDTH SPACE"),
        ("a\u202eb", "the invisible character U+202E RIGHT-TO-LEFT OVERRIDE"),
        ("a\nb", "the control character U+000A"),
        ("a\n", "the control character U+000A"),
        ("a\x00", "the control character U+0000"),
        ("a\ud800", "the control character U+D800"),
        ("a b", "U+0020 SPACE"),
    ],
)
def test_illegal_bot_ids_are_refused_by_the_rule_they_break(bot, rule):
    with pytest.raises(InvalidArgument) as caught:
        names.check_bot_id(bot)
    assert caught.value.reason == "RESOURCE_NAME_INVALID"
    assert rule in caught.value.message
    assert caught.value.violations[0].field == "bot_id"
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    "session", ["", "..", "a..b", "a/b", "a\\b", ".a", ":a", "~a", "a b", "s" * 257, "a\u00a0b", "\u0455"]
)
def test_illegal_session_ids_are_refused(session):
    with pytest.raises(InvalidArgument) as caught:
        names.check_session_id(session, field="session.name")
    assert caught.value.reason == "RESOURCE_NAME_INVALID"
    assert caught.value.metadata["field"] == "session.name"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "main",
        "bots",
        "bots/",
        "bots/a/sessions",
        "bots/a/sessions/b/c",
        "bots//sessions/b",
        "/bots/a/sessions/b",
        "Bots/a/sessions/b",
        "bots/../sessions/b",
        "bots/a/memories/b",
    ],
)
def test_names_of_another_shape_are_refused(name):
    with pytest.raises(InvalidArgument):
        names.parse_session(name)


def test_a_name_says_which_field_it_came_from():
    with pytest.raises(InvalidArgument) as caught:
        names.parse_bot("bot/main", field="filter.bot")
    assert caught.value.message.startswith("filter.bot: must look like bots/{bot}")


def test_memory_and_worker_names_survive_the_round_trip():
    memory = names.parse_memory(names.memory_name("main", "m-1"))
    assert (memory, memory.name) == (names.MemoryName("main", "m-1"), "bots/main/memories/m-1")
    assert names.parse_worker(names.worker_name("host-7:42")) == "host-7:42"


@pytest.mark.parametrize(
    ("key", "session"),
    [
        ("agent:main:main", ("main", "main")),
        ("agent:main:dashboard:5f1c", ("main", "dashboard:5f1c")),
        ("agent:Main:Foo", ("main", "Foo")),
        ("AGENT:main:foo", ("main", "foo")),
    ],
)
def test_session_keys_name_a_bot_and_a_session(key, session):
    assert names.parse_session_key(key) == session


@pytest.mark.parametrize(
    "key", ["main", "agent:main", "agent:main:", "agent::x", "agent:main::x", "agent:main:bad key/../x"]
)
def test_bad_session_keys_are_refused(key):
    with pytest.raises(InvalidArgument) as caught:
        names.parse_session_key(key)
    assert caught.value.metadata["field"] == "session_key"


def test_a_session_gives_its_key_back():
    session = names.SessionName("main", "thread:x")
    assert session.key == "agent:main:thread:x"
    assert names.parse_session_key(session.key) == session


def test_a_block_is_named_by_its_bot_and_an_id_like_a_bots():
    assert names.parse_block("bots/main/blocks/human") == names.BlockName("main", "human")
    with pytest.raises(InvalidArgument) as caught:
        names.parse_block("bots/main/blocks/humаn", field="block.name")  # noqa: RUF001 - a Cyrillic letter is the point
    assert caught.value.message.startswith("block.name: block id must not contain U+0430")
