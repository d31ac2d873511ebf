"""`python -m ledger`: puts a system under load and under faults, and says what became of every accepted message."""

import argparse
import asyncio
import importlib
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from ledger.check import Verdict
from ledger.drive import drive, say
from ledger.model import Kind, System
from ledger.plan import Plan, make_plan

SYSTEMS = {
    "mobot": "ledger.mobot.system",
    "mobot-postgresql": "ledger.mobot.postgresql",
    "jetstream": "ledger.peers.jetstream",
    "openclaw": "ledger.peers.openclaw",
}
SHOWN = 40
EXIT_TERMINATED = 143


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m ledger", description=__doc__)
    parser.add_argument("--system", choices=sorted(SYSTEMS), default="mobot", help="what is tested (default mobot)")
    parser.add_argument("--messages", type=int, default=3_000, help="how many are sent (default 3000)")
    parser.add_argument("--strikes", type=int, default=0, help="how many faults (default: one for each 120 messages)")
    parser.add_argument("--seed", type=int, default=0, help="replays a run (default: by the clock)")
    parser.add_argument("--without", default="", help="kinds of mail to leave out, separated by commas")
    parser.add_argument("--patience", type=float, default=90, help="seconds until effects count as lost (default 90)")
    parser.add_argument("--report", type=Path, help="a file for the report, in Markdown")
    parser.add_argument("--keep", type=Path, help="a directory for the data and the logs, which then stay")
    arguments = parser.parse_args()
    if arguments.messages < 1:
        parser.error("--messages must be at least 1")
    if arguments.keep is not None and arguments.keep.exists() and any(arguments.keep.iterdir()):
        parser.error(f"--keep: {arguments.keep} is not empty, and a ledger begins with nothing")
    # The seed decides what is sent and when a fault strikes; which instruction it hits is up to the machine.
    seed = arguments.seed or random.SystemRandom().randrange(1, 1_000_000)
    with tempfile.TemporaryDirectory(prefix="mobot-ledger-", ignore_cleanup_errors=True) as scratch:
        directory = arguments.keep or Path(scratch)
        directory.mkdir(parents=True, exist_ok=True)
        system: System = importlib.import_module(SYSTEMS[arguments.system]).make(directory)
        without = frozenset(map(Kind, filter(None, arguments.without.split(","))))
        plan = make_plan(
            seed,
            arguments.messages,
            system,
            strikes=arguments.strikes or max(1, plan_strikes(arguments)),
            without=without,
        )
        say(f"{system.name} ({system.durability}): {plan.count} messages, {len(plan.strikes)} faults, seed {seed}")
        start = time.monotonic()
        try:
            verdict = asyncio.run(_run(system, plan, patience_s=arguments.patience))
        except asyncio.CancelledError:
            say("ended before its end; nothing is known")
            return EXIT_TERMINATED
    cases = verdict.cases()
    for case in cases[:SHOWN]:
        print(case)
    if len(cases) > SHOWN:
        print(f"... and {len(cases) - SHOWN} more")
    if arguments.report is not None:
        struck = "".join(f"- after {strike.after}: {strike.fault}\n" for strike in plan.strikes)
        arguments.report.write_text(
            f"# Fault ledger: {system.name}\n\n{system.durability}\n\n{verdict.line(seed)}\n\n"
            f"{time.monotonic() - start:.0f} s, {plan.count} messages.\n\n## Faults\n\n{struck}\n## Cases\n\n"
            + ("".join(f"- {case}\n" for case in cases) or "None.\n")
        )
    print(verdict.line(seed))
    return 0 if verdict.clean else 1


async def _run(system: System, plan: Plan, *, patience_s: float) -> Verdict:
    """Drives the plan. Ended by SIGTERM, it ends what it has started, as it does at Ctrl-C."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await drive(system, plan, patience_s=patience_s)


def plan_strikes(arguments: argparse.Namespace) -> int:
    """One fault for each 120 messages, up to 200."""
    return min(200, int(arguments.messages) // 120)


if __name__ == "__main__":
    sys.exit(main())
