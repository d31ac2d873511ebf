"""Compares what was accepted with what can be seen."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ledger.model import Kind, Mail, Seen, System

_UNANSWERED = frozenset({Kind.BROKEN, Kind.ABORT})
# What is spread after its acknowledgement, has its place for itself, or may overtake what waits.
_UNORDERED = frozenset({Kind.SPAWN, Kind.PUBLISH, Kind.STEER})
_OUTCOMES = {
    Kind.BROKEN: frozenset({"FAILED"}),
    Kind.ABORT: frozenset({"CANCELLED", "SUCCEEDED"}),
}
_SUCCEEDED = frozenset({"SUCCEEDED"})
FINAL = frozenset({"SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED", "DEAD_LETTERED", "REJECTED"})
"""States of a run that is over."""


@dataclass(slots=True)
class Verdict:
    """The four numbers, and a line about each case that they count."""

    accepted: int
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    disordered: list[str] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not (self.lost or self.doubled or self.disordered or self.unexplained)

    def line(self, seed: int) -> str:
        return (
            f"accepted {self.accepted} lost {len(self.lost)} doubled {len(self.doubled)} "
            f"disordered {len(self.disordered)} unexplained {len(self.unexplained)} seed {seed}"
        )

    def cases(self) -> list[str]:
        return [
            f"{what}: {case}"
            for what, cases in (
                ("lost", self.lost),
                ("doubled", self.doubled),
                ("disordered", self.disordered),
                ("unexplained", self.unexplained),
            )
            for case in cases
        ]


def check(
    system: System,
    accepted: Mapping[int, tuple[Mail, str]],
    states: Mapping[str, str],
    journal: Mapping[str, Sequence[Seen]],
    refused: Sequence[str],
) -> Verdict:
    """`accepted` has each accepted mail with its run, by number; `states` what the system says of each run."""
    verdict = Verdict(len(accepted))
    verdict.unexplained += refused
    for complaint in system.watched():
        what, _, case = complaint.partition(" ")
        getattr(verdict, what).append(case)
    _check_mail(system, accepted, journal, verdict)
    _check_runs(accepted, states, journal, verdict)
    _check_order(accepted, journal, verdict)
    return verdict


def _check_mail(
    system: System, accepted: Mapping[int, tuple[Mail, str]], journal: Mapping[str, Sequence[Seen]], verdict: Verdict
) -> None:
    lying = {place: Counter(seen.number for seen in log if seen.what == "mail") for place, log in journal.items()}
    replies = {place: Counter(seen.number for seen in log if seen.what == "reply") for place, log in journal.items()}
    empty: Counter[int] = Counter()
    expected: dict[str, set[int]] = defaultdict(set)
    for number, (mail, _) in accepted.items():
        for place in system.places_of(mail):
            expected[place].add(number)
            _count(verdict, lying.get(place, empty)[number], f"{mail.text} in {place}")
        where = system.reply_place(mail)
        if where:
            _count(verdict, replies.get(where, empty)[number], f"the answer to {mail.text} in {where}")
    for place, counts in lying.items():
        for number in counts.keys() - expected[place]:
            verdict.unexplained.append(f"#{number} lies in {place}, where nobody sent it")


def _count(verdict: Verdict, count: int, what: str) -> None:
    if count == 0:
        verdict.lost.append(what)
    elif count > 1:
        verdict.doubled.append(f"{what}: {count} times")


def _check_runs(
    accepted: Mapping[int, tuple[Mail, str]],
    states: Mapping[str, str],
    journal: Mapping[str, Sequence[Seen]],
    verdict: Verdict,
) -> None:
    """Each run that began ends once, in an outcome that its kind explains, and a success is answered once: by its own
    turn, or by the one that took it in."""
    kinds = {number: mail.kind for number, (mail, _) in accepted.items()}
    for place, log in journal.items():
        begun: dict[str, Seen] = {}
        ends: dict[str, list[str]] = defaultdict(list)
        answers: Counter[int] = Counter()
        for seen in log:
            if seen.what in ("mail", "reply"):
                begun.setdefault(seen.run, seen)
            elif seen.what == "end":
                ends[seen.run].append(seen.outcome)
            elif seen.what == "answer":
                answers[seen.number] += 1
        for run, first in begun.items():
            what = f"the run of {first.what} #{first.number} in {place}"
            _count(verdict, len(ends[run]), f"the end of {what}")
            kind = kinds.get(first.number, Kind.SEND) if first.what == "mail" else Kind.SEND
            for outcome in ends[run]:
                if outcome not in _OUTCOMES.get(kind, _SUCCEEDED):
                    verdict.unexplained.append(f"{what} ({kind}) ended as {outcome}")
            told = states.get(run)
            if told is not None and ends[run] and told != ends[run][0]:
                verdict.unexplained.append(f"{what} ended as {ends[run][0]} in the log and {told} in the mailbox")
            if (
                first.what == "mail"
                and ends[run] == ["SUCCEEDED"]
                and (kind not in _UNANSWERED or answers[first.number])
            ):
                _count(verdict, answers[first.number], f"the answer within {what}")
        for run in ends.keys() - begun.keys():
            verdict.unexplained.append(f"run {run} ended in {place} and never began")


def _check_order(
    accepted: Mapping[int, tuple[Mail, str]], journal: Mapping[str, Sequence[Seen]], verdict: Verdict
) -> None:
    """What one lane sent, each after the acknowledgement of the one before, lies in every log in that order."""
    for place, log in journal.items():
        # What is cancelled while it waits leaves the line: it lies where it was cancelled.
        cancelled = {seen.run for seen in log if seen.what == "end" and seen.outcome == "CANCELLED"}
        last: dict[int, int] = {}
        for seen in log:
            if seen.what != "mail" or seen.number not in accepted or seen.run in cancelled:
                continue
            mail = accepted[seen.number][0]
            if mail.kind in _UNORDERED:
                continue
            if last.get(mail.lane, 0) > seen.number:
                verdict.disordered.append(f"#{seen.number} after #{last[mail.lane]} of the same sender in {place}")
            last[mail.lane] = max(last.get(mail.lane, 0), seen.number)
