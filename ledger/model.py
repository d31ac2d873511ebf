"""What is sent, what a system under test must be able to do, and what of it can be seen afterwards."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Kind(StrEnum):
    """What a piece of mail asks for. The word is the first of its text, so that whoever works on it knows."""

    SEND = "send"  # work and answer
    ASK = "ask"  # work, and the answer comes into the asker's own mailbox
    FLAKY = "flaky"  # the first attempt fails and may be repeated
    BROKEN = "broken"  # every attempt would fail: the run ends as failed
    ABORT = "abort"  # sent, and cancelled a moment later
    SPAWN = "spawn"  # work in a new session of its own; the end is told to the parent
    PUBLISH = "publish"  # to all subscribers of a topic
    STEER = "steer"  # handed to the turn that runs, if one does
    COLLECT = "collect"  # worked on in one turn with others that wait
    DECIDE = "decide"  # a tool that must not run twice is in doubt: the run asks, and two people answer at once
    CHAT = "chat"  # said by a client of the gateway


class Fault(StrEnum):
    """What is done to a system while it works."""

    KILL_ROUTER = "kill router"
    KILL_SESSION = "kill session"
    KILL_REGISTRY = "kill registry"
    KILL_WORKER = "kill worker"
    KILL_GATEWAY = "kill gateway"
    KILL_ALL = "kill all"
    ROUTER_BEFORE_COMMIT = "kill router before a commit"
    ROUTER_AFTER_COMMIT = "kill router after a commit"
    SESSION_BEFORE_COMMIT = "kill session before a commit"
    SESSION_AFTER_COMMIT = "kill session after a commit"
    PAUSE_WORKER = "pause worker past its lease"
    PAUSE_ROUTER = "pause router"
    PAUSE_SESSION = "pause session"
    CUT_SOCKETS = "cut sockets"
    DISK_FULL = "disk full"
    CLOCK_FORWARD = "clock forward"
    CLOCK_BACK = "clock back"
    DATABASE_RESTART = "database restart"


@dataclass(frozen=True, slots=True)
class Mail:
    """One thing to send. `place` is the destination's number; `asker` that of the place which gets the answer."""

    number: int
    kind: Kind
    lane: int
    place: int
    asker: int = -1

    @property
    def text(self) -> str:
        return f"{self.kind} #{self.number}"


@dataclass(frozen=True, slots=True)
class Seen:
    """One visible effect, in the order of its place's log.

    `what` is "mail" (it lies in the log), "answer" (what was said to it, by whatever run), "reply" (an answer or a
    report that came as mail), "end" (the run's terminal event, with its `outcome`) or "other".
    """

    what: str
    number: int
    run: str
    outcome: str = ""


class Unanswered(Exception):
    """Nobody knows whether a mail was accepted: it must be sent again, under the same key."""


class Refused(Exception):
    """The system does not take a mail, and says so."""


class System(Protocol):
    """A system under test. Places are numbers; the adapter names them as the system does."""

    name: str
    durability: str
    kinds: frozenset[Kind]
    faults: frozenset[Fault]

    async def start(self) -> None:
        """Returns when mail can be sent."""

    async def stop(self) -> None:
        """Leaves nothing behind, also of a start that failed half-way."""

    async def send(self, mail: Mail) -> str:
        """Sends; returns the name of the run (or whatever the system calls it) once the mail is accepted.

        Raises:
            Unanswered: the connection broke or the time was up; the caller sends it again.
            Refused: the system said no, for good.
        """

    async def strike(self, fault: Fault, amount: int) -> None:
        """Does it, and undoes what has to be undone (a pause, a full disk). `amount` (1 to 10) makes strikes differ."""

    async def settle(self, runs: Sequence[str], patience_s: float) -> Mapping[str, str]:
        """Waits until these runs are over; returns the state of each as the system tells it."""

    async def journal(self, mails: Sequence[Mail]) -> Mapping[str, Sequence[Seen]]:
        """All that can be seen now: the log of each place that these can have touched, oldest first."""

    def places_of(self, mail: Mail) -> Sequence[str]:
        """The places in whose log this mail must lie."""

    def reply_place(self, mail: Mail) -> str:
        """The place in which the answer to it must arrive as mail; "" where there is none."""

    def watched(self) -> Sequence[str]:
        """What is amiss beyond the journal, one line each ("lost ...", "doubled ..."): what watchers saw that came back
        after every break, and what became of decisions. Of the last journal."""
