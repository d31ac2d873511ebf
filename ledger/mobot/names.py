"""How mobot names the places of a plan."""

import re
from collections.abc import Sequence

from ledger.model import Kind, Mail
from ledger.plan import PLACES

BOTS = tuple(f"b{number}" for number in range(PLACES // 2))
TOPICS = 8
SUBSCRIBERS = 5

MAIL = re.compile(rf"^(?:{'|'.join(Kind)}) #(\d+)$")
ANSWER = re.compile(r"answer #(\d+)")


def session(place: int) -> str:
    return f"bots/{BOTS[place % len(BOTS)]}/sessions/s{place // len(BOTS)}"


def child(mail: Mail) -> str:
    """The session that a spawn makes."""
    return f"bots/{BOTS[mail.place % len(BOTS)]}/sessions/child-{mail.number}"


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
