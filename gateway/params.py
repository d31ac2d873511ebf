"""Checks the params of a method against a small table of rules.

Known properties are checked; unknown ones are accepted, because newer clients send properties that the published
schema does not list yet. Messages read like the reference gateway's: "invalid X params: at /label: must be string".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway import errors


@dataclass(frozen=True, slots=True)
class Text:
    """A string. Lengths are in characters."""

    required: bool = False
    nullable: bool = False
    min_length: int = 0
    max_length: int | None = None
    choices: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Whole:
    """An integer."""

    required: bool = False
    nullable: bool = False
    minimum: int | None = None
    maximum: int | None = None


@dataclass(frozen=True, slots=True)
class Flag:
    """A boolean."""

    required: bool = False
    nullable: bool = False


@dataclass(frozen=True, slots=True)
class Texts:
    """A list of non-empty strings."""

    required: bool = False
    nullable: bool = False
    max_items: int | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """An object with rules of its own."""

    rules: "Mapping[str, Rule]"
    required: bool = False
    nullable: bool = False


@dataclass(frozen=True, slots=True)
class Anything:
    """Accepted as it is."""

    required: bool = False
    nullable: bool = True


Rule = Text | Whole | Flag | Texts | Group | Anything
Rules = Mapping[str, Rule]

KEY = Text(required=True, min_length=1, max_length=512)
OPTIONAL_KEY = Text(min_length=1, max_length=512)
AGENT = Text(min_length=1, max_length=128)


def check(method: str, params: Mapping[str, Any], rules: Rules) -> None:
    """Raises the edge's INVALID_REQUEST naming every broken rule."""
    problems = problems_of(params, rules)
    if problems:
        raise errors.invalid_request(f"invalid {method} params: {'; '.join(problems)}")


def problems_of(params: Mapping[str, Any], rules: Rules, path: str = "") -> list[str]:
    """One sentence per broken rule, in the order of the rules."""
    problems: list[str] = []
    for name, rule in rules.items():
        if name not in params:
            if rule.required:
                problems.append(_at(path, f"must have required property '{name}'"))
            continue
        value = params[name]
        if value is None and rule.nullable:
            continue
        problems += _broken(value, rule, f"{path}/{name}")
    return problems


def _broken(value: object, rule: Rule, path: str) -> list[str]:
    match rule:
        case Text():
            problem = _broken_text(value, rule)
        case Whole():
            problem = _broken_whole(value, rule)
        case Flag():
            problem = None if isinstance(value, bool) else "must be boolean"
        case Texts():
            problem = _broken_texts(value, rule)
        case Group():
            if not isinstance(value, dict):
                problem = "must be object"
            else:
                return problems_of(value, rule.rules, path)
        case Anything():
            problem = None
    return [_at(path, problem)] if problem else []


def _broken_text(value: object, rule: Text) -> str | None:
    if not isinstance(value, str):
        return "must be string"
    if len(value) < rule.min_length:
        return f"must not have fewer than {rule.min_length} characters"
    if rule.max_length is not None and len(value) > rule.max_length:
        return f"must not have more than {rule.max_length} characters"
    if rule.choices and value not in rule.choices:
        return "must be equal to one of the allowed values"
    return None


def _broken_whole(value: object, rule: Whole) -> str | None:
    # JSON true is a Python int; it is not an integer to anybody else.
    if not isinstance(value, int) or isinstance(value, bool):
        return "must be integer"
    if rule.minimum is not None and value < rule.minimum:
        return f"must be >= {rule.minimum}"
    if rule.maximum is not None and value > rule.maximum:
        return f"must be <= {rule.maximum}"
    return None


def _broken_texts(value: object, rule: Texts) -> str | None:
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        return "must be array of non-empty strings"
    if rule.max_items is not None and len(value) > rule.max_items:
        return f"must not have more than {rule.max_items} items"
    return None


def _at(path: str, problem: str) -> str:
    if problem.startswith("must have required"):
        return problem if not path else f"at {path}: {problem}"
    return f"at {path or 'root'}: {problem}"
