"""The plan of a run: what is sent by whom, and which fault strikes after how many messages. All of it follows from the
seed."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from ledger.model import Fault, Kind, Mail, System

LANES = 24
PLACES = 400

_WEIGHTS = {
    Kind.SEND: 60,
    Kind.ASK: 14,
    Kind.FLAKY: 5,
    Kind.BROKEN: 3,
    Kind.ABORT: 6,
    Kind.SPAWN: 6,
    Kind.PUBLISH: 6,
    Kind.STEER: 6,
    Kind.COLLECT: 6,
    Kind.DECIDE: 2,
    Kind.CHAT: 8,
}


@dataclass(frozen=True, slots=True)
class Strike:
    """A fault that strikes when so many messages are accepted."""

    after: int
    fault: Fault
    amount: int


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int
    lanes: Sequence[Sequence[Mail]]
    strikes: Sequence[Strike]

    @property
    def count(self) -> int:
        return sum(len(lane) for lane in self.lanes)


def make_plan(
    seed: int, messages: int, system: System, *, strikes: int, without: frozenset[Kind] = frozenset()
) -> Plan:
    """Every fault that the system can be struck by comes at least once if `strikes` allows."""
    chance = random.Random(seed)
    kinds = sorted(system.kinds - without)
    weights = [_WEIGHTS[kind] for kind in kinds]
    lanes: list[list[Mail]] = [[] for _ in range(LANES)]
    for number in range(1, messages + 1):
        lane = chance.randrange(LANES)
        kind = chance.choices(kinds, weights)[0]
        # Most places sleep: nine of ten messages go to a tenth of them.
        place = chance.randrange(PLACES // 10) if chance.random() < 0.9 else chance.randrange(PLACES)
        asker = (place + 1 + chance.randrange(PLACES - 1)) % PLACES
        lanes[lane].append(Mail(number, kind, lane, place, asker))
    return Plan(seed, lanes, _strikes(chance, messages, sorted(system.faults), strikes))


def _strikes(chance: random.Random, messages: int, faults: list[Fault], count: int) -> list[Strike]:
    if not faults:
        return []
    chosen: list[Fault] = []
    while len(chosen) < count:
        chosen += chance.sample(faults, len(faults))
    chosen = chosen[:count]
    return [
        Strike(int(messages * (place + 1) / (count + 1)), fault, chance.randint(1, 10))
        for place, fault in enumerate(chosen)
    ]
