"""How mobot names the places of a plan, and what is said there."""

import re
from collections.abc import Iterable, Sequence

from ledger.model import Kind, Mail
from ledger.plan import PLACES

BOTS = tuple(f"b{number}" for number in range(PLACES // 2))
TOPICS = 8
SUBSCRIBERS = 5

MAIL = re.compile(rf"^({'|'.join(Kind)}) #(\d+)$")
_ANSWER = re.compile(r"^answer((?: #\d+)+)$", re.MULTILINE)


def answer_to(numbers: Iterable[int]) -> str:
    """What is said to several messages at once."""
    return "answer " + " ".join(f"#{number}" for number in numbers)


def answered_by(text: str) -> Sequence[int]:
    """The messages that a text answers."""
    found = _ANSWER.search(text)
    return [int(word[1:]) for word in found[1].split()] if found else ()


def session(place: int) -> str:
    return f"bots/{BOTS[place % len(BOTS)]}/sessions/s{place // len(BOTS)}"


def child(mail: Mail) -> str:
    """The session that a spawn makes."""
    return f"bots/{BOTS[mail.place % len(BOTS)]}/sessions/child-{mail.number}"


def client_key(session_name: str) -> str:
    """The session as clients of the gateway call it."""
    _, bot, _, session_id = session_name.split("/")
    return f"agent:{bot}:{session_id}"


def topic(mail: Mail) -> str:
    return f"topics/t{mail.place % TOPICS}"


def subscribers(number: int) -> Sequence[str]:
    return tuple(session((number * 7 + each * 13) % PLACES) for each in range(SUBSCRIBERS))


def places_of(mail: Mail) -> Sequence[str]:
    if mail.kind is Kind.SPAWN:
        return (child(mail),)
    if mail.kind is Kind.PUBLISH:
        return subscribers(mail.place % TOPICS)
    return (session(mail.place),)


def reply_place(mail: Mail) -> str:
    return session(mail.asker) if mail.kind in (Kind.ASK, Kind.SPAWN) else ""
