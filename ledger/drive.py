"""Runs a plan against a system: the load, the faults, the wait until all is quiet, and the comparison."""

import asyncio
import sys
import time
from dataclasses import dataclass, field
from math import inf

from ledger.check import FINAL, Verdict, check
from ledger.model import Mail, Refused, System, Unanswered
from ledger.plan import Plan

_RESEND_S = 0.05
_GIVE_UP_S = 120.0
_STEP_S = 0.25


def say(text: str) -> None:
    """Progress, for people."""
    print(text, file=sys.stderr, flush=True)


@dataclass(slots=True)
class Book:
    """What the senders know: each mail that was acknowledged, with its run, and what was refused."""

    accepted: dict[int, tuple[Mail, str]] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    resent: int = 0
    limit: float = inf
    """Senders wait once so many are decided, so that no fault strikes an idle system."""
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def decided(self) -> int:
        return len(self.accepted) + len(self.refused)

    async def accept(self, mail: Mail, run: str) -> None:
        self.accepted[mail.number] = (mail, run)
        async with self.changed:
            self.changed.notify_all()

    async def refuse(self, case: str) -> None:
        self.refused.append(case)
        async with self.changed:
            self.changed.notify_all()

    async def allow(self, limit: float) -> None:
        self.limit = limit
        async with self.changed:
            self.changed.notify_all()

    async def until_decided(self, count: int) -> None:
        async with self.changed:
            await self.changed.wait_for(lambda: self.decided >= count)

    async def until_allowed(self) -> None:
        if self.decided >= self.limit:
            async with self.changed:
                await self.changed.wait_for(lambda: self.decided < self.limit)


async def drive(system: System, plan: Plan, *, patience_s: float) -> Verdict:
    """Runs everything; the system is started and stopped here."""
    book = Book()
    try:
        await system.start()
        start = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            lanes = [tasks.create_task(_send_lane(system, list(lane), book)) for lane in plan.lanes]
            striking = tasks.create_task(_strike(system, plan, book))
            telling = tasks.create_task(_tell(plan, book))
            await asyncio.gather(*lanes)
            await striking
            telling.cancel()
        say(f"sent in {time.monotonic() - start:.0f} s, {book.resent} times again; waiting until all is quiet")
        return await _compare(system, book, patience_s)
    finally:
        await system.stop()


async def _send_lane(system: System, mails: list[Mail], book: Book) -> None:
    """One sender: a mail is sent again, under the same key, until the system says yes or no."""
    for mail in mails:
        await book.until_allowed()
        deadline = time.monotonic() + _GIVE_UP_S
        while True:
            try:
                await book.accept(mail, await system.send(mail))
            except Unanswered as error:
                if time.monotonic() > deadline:
                    await book.refuse(f"{mail.text} was never answered: {error}")
                    break
                book.resent += 1
                await asyncio.sleep(_RESEND_S)  # a client's pause between two tries
                continue
            except Refused as error:
                await book.refuse(f"{mail.text} was refused: {error}")
            break


async def _strike(system: System, plan: Plan, book: Book) -> None:
    for number, strike in enumerate(plan.strikes, 1):
        following = plan.strikes[number].after if number < len(plan.strikes) else inf
        await book.allow(following)
        await book.until_decided(min(strike.after, plan.count))
        say(f"[{book.decided}/{plan.count}] fault {number} of {len(plan.strikes)}: {strike.fault}")
        await system.strike(strike.fault, strike.amount)
    await book.allow(inf)


async def _tell(plan: Plan, book: Book) -> None:
    while True:
        await asyncio.sleep(10)
        say(f"[{book.decided}/{plan.count}] accepted")


async def _compare(system: System, book: Book, patience_s: float) -> Verdict:
    """Compares until nothing is amiss or the patience is over: effects may trail what caused them, but not for ever."""
    mails = [mail for mail, _ in book.accepted.values()]
    runs = [run for _, run in book.accepted.values() if run]
    # Some thousand effects a second are read back at least; a system that is slower than that is not quiet, but stuck.
    patience_s += len(mails) / 200
    deadline = time.monotonic() + patience_s
    states = dict(await system.settle(runs, patience_s))
    while True:
        verdict = check(system, book.accepted, states, await system.journal(mails), book.refused)
        if verdict.clean or time.monotonic() > deadline:
            return verdict
        await asyncio.sleep(_STEP_S)
        states |= await system.settle([run for run in runs if states.get(run) not in FINAL], _STEP_S)
