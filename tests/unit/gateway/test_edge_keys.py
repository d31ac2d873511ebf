"""Keys of clients and the sessions they mean."""

import pytest

from chassis.errors import InvalidArgument
from gateway.errors import RequestRefused
from gateway.keys import Keys, agent_of, key_of

KEYS = Keys("main")


@pytest.mark.parametrize(
    ("key", "agent", "session"),
    [
        ("main", None, ("main", "main")),
        ("foo", None, ("main", "foo")),
        ("foo", "Helper", ("helper", "foo")),
        ("thread:x", None, ("main", "thread:x")),
        ("agent:main:thread:x", None, ("main", "thread:x")),
        ("AGENT:Helper:Foo", None, ("helper", "Foo")),
        ("agent:helper:foo", "helper", ("helper", "foo")),
    ],
)
def test_a_key_means_one_session(key, agent, session):
    assert KEYS.session(key, agent) == session


@pytest.mark.parametrize("key", ["", "agent:main", "agent:main:", "agent::x", "../x", "a/b", "a\nb", "é", "x" * 257])
def test_a_bad_key_means_none(key):
    with pytest.raises(InvalidArgument):
        KEYS.session(key)


def test_a_key_of_another_agent_than_the_one_beside_it_is_refused():
    with pytest.raises(RequestRefused):
        KEYS.session("agent:main:x", "helper")


def test_resource_names_become_keys_again():
    assert key_of("bots/main/sessions/thread:x") == "agent:main:thread:x"
    assert agent_of("bots/main") == agent_of("bots/main/sessions/x") == "main"
