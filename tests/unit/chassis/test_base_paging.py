"""Page tokens and page sizes."""

import base64
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import InvalidArgument
from chassis.paging import PageTokens, clamp_page_size

TOKENS = PageTokens(b"secret")
queries = st.dictionaries(st.text(), st.text() | st.integers() | st.booleans(), max_size=4)
positions = st.lists(st.text() | st.integers(), max_size=4)


@given(queries, positions)
def test_a_token_gives_back_its_position(query, position):
    assert TOKENS.decode(query, TOKENS.encode(query, position)) == tuple(position)


@given(queries, positions)
def test_a_token_is_url_safe(query, position):
    assert set(TOKENS.encode(query, position)) <= set(string.ascii_letters + string.digits + "-_")


@given(queries, queries, positions)
def test_a_token_of_another_query_is_refused(query, other, position):
    token = TOKENS.encode(query, position)
    if repr(sorted(query.items())) == repr(sorted(other.items())):
        return
    with pytest.raises(InvalidArgument, match="other arguments") as caught:
        TOKENS.decode(other, token)
    assert caught.value.reason == "PAGE_TOKEN_INVALID"


@given(positions, st.data())
def test_a_changed_token_is_refused(position, data):
    raw = bytearray(base64.urlsafe_b64decode((token := TOKENS.encode({}, position)) + "=" * (-len(token) % 4)))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(InvalidArgument):
        TOKENS.decode({}, base64.urlsafe_b64encode(raw).decode().rstrip("="))


@given(st.text())
def test_any_other_text_is_refused(text):
    with pytest.raises(InvalidArgument) as caught:
        TOKENS.decode({}, text)
    assert caught.value.reason == "PAGE_TOKEN_INVALID"


def test_true_one_and_the_text_one_are_different_queries():
    token = TOKENS.encode({"archived": True}, [1])
    for value in (1, "1", "true"):
        with pytest.raises(InvalidArgument):
            TOKENS.decode({"archived": value}, token)


def test_replicas_share_tokens_only_when_they_share_the_secret():
    token = TOKENS.encode({"bot": "main"}, ["x", 3])
    assert PageTokens(b"secret").decode({"bot": "main"}, token) == ("x", 3)
    with pytest.raises(InvalidArgument):
        PageTokens(b"another").decode({"bot": "main"}, token)


@pytest.mark.parametrize(("requested", "size"), [(0, 50), (1, 1), (50, 50), (200, 200), (201, 200), (2**31 - 1, 200)])
def test_page_sizes_are_clamped(requested, size):
    assert clamp_page_size(requested, default=50, maximum=200) == size


def test_a_negative_page_size_is_refused():
    with pytest.raises(InvalidArgument, match="page_size: must not be negative"):
        clamp_page_size(-1, default=50, maximum=200)
