"""Params are checked where a rule is known; what is unknown passes."""

import pytest

from gateway import params
from gateway.errors import RequestRefused

RULES = {
    "key": params.Text(required=True, min_length=1, max_length=8),
    "label": params.Text(nullable=True, max_length=4),
    "mode": params.Text(choices=("a", "b")),
    "limit": params.Whole(minimum=1, maximum=10),
    "flag": params.Flag(),
    "caps": params.Texts(max_items=2),
    "client": params.Group({"id": params.Text(required=True)}),
}


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({}, "must have required property 'key'"),
        ({"key": 1}, "at /key: must be string"),
        ({"key": ""}, "at /key: must not have fewer than 1 characters"),
        ({"key": "123456789"}, "at /key: must not have more than 8 characters"),
        ({"key": None}, "at /key: must be string"),
        ({"key": "k", "label": "12345"}, "at /label: must not have more than 4 characters"),
        ({"key": "k", "mode": "c"}, "at /mode: must be equal to one of the allowed values"),
        ({"key": "k", "limit": 0}, "at /limit: must be >= 1"),
        ({"key": "k", "limit": 11}, "at /limit: must be <= 10"),
        ({"key": "k", "limit": 1.5}, "at /limit: must be integer"),
        ({"key": "k", "limit": True}, "at /limit: must be integer"),
        ({"key": "k", "flag": 1}, "at /flag: must be boolean"),
        ({"key": "k", "caps": "x"}, "at /caps: must be array of non-empty strings"),
        ({"key": "k", "caps": [""]}, "at /caps: must be array of non-empty strings"),
        ({"key": "k", "caps": ["a", "b", "c"]}, "at /caps: must not have more than 2 items"),
        ({"key": "k", "client": 1}, "at /client: must be object"),
        ({"key": "k", "client": {}}, "at /client: must have required property 'id'"),
        ({"key": "k", "client": {"id": 1}}, "at /client/id: must be string"),
    ],
)
def test_a_broken_rule_is_named_with_its_place(given, problem):
    with pytest.raises(RequestRefused) as refused:
        params.check("x.y", given, RULES)

    assert refused.value.shape.code == "INVALID_REQUEST"
    assert refused.value.shape.message == f"invalid x.y params: {problem}"


def test_all_broken_rules_are_told_at_once():
    assert params.problems_of({"limit": "x", "flag": "y"}, RULES) == [
        "must have required property 'key'",
        "at /limit: must be integer",
        "at /flag: must be boolean",
    ]


def test_unknown_properties_and_nulls_that_clear_are_accepted():
    params.check("x.y", {"key": "k", "label": None, "brandNew": {"deep": 1}}, RULES)
