"""What a person types for a session."""

import pytest

from chassis.errors import InvalidArgument
from mobot_cli.addresses import bot_name, session_name


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("main", "bots/main/sessions/main"),
        ("main/budget", "bots/main/sessions/budget"),
        ("main/thread:budget", "bots/main/sessions/thread:budget"),
        ("agent:main:thread:budget", "bots/main/sessions/thread:budget"),
        ("bots/main/sessions/x", "bots/main/sessions/x"),
    ],
)
def test_every_way_to_write_a_session_means_one(typed, meant):
    assert session_name(typed) == meant


@pytest.mark.parametrize(
    "typed", ["", "main/", "/x", "main/../x", "agent:main", "bots/main", "\u041c\u0430/in", "main/a\x00b"]
)
def test_anything_else_is_refused_with_the_rule(typed):
    with pytest.raises(InvalidArgument) as refused:
        session_name(typed)
    assert refused.value.message


def test_a_bot_is_its_id_or_its_resource_name():
    assert bot_name("main") == bot_name("bots/main") == "bots/main"
