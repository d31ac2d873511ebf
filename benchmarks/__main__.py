"""`python -m benchmarks SUITE`: JSON lines on standard output, a table on standard error."""

import argparse
import asyncio
import importlib
import inspect
import math
import sys
from collections.abc import Sequence
from pathlib import Path

SUITES = {
    "core": "benchmarks.core",
    "mail": "benchmarks.mail",
    "sessions": "benchmarks.sessions",
    "memory": "benchmarks.memory",
}

_OF_ONE_SUITE = {"messages": "mail", "locomo": "memory"}


def main(argv: Sequence[str] | None = None) -> int:
    """0 when every row has met its target, 1 when one has not, 2 for arguments that make no sense."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("suite", choices=sorted(SUITES))
    parser.add_argument(
        "--rounds", type=_count, default=5, help="interleaved rounds; the median is reported (default 5)"
    )
    parser.add_argument("--only", default="", help="rows to run, separated by commas (default all)")
    parser.add_argument("--seconds", type=_seconds, default=2.0, help="length of one measurement (default 2)")
    parser.add_argument(
        "--messages", type=_count, help="suite mail: how many are stored for the row `stored` (default 100000)"
    )
    parser.add_argument(
        "--locomo",
        type=_file,
        help="suite memory: path of LoCoMo's locomo10.json (CC BY-NC 4.0, not in here), which the row `quality` asks",
    )
    arguments = parser.parse_args(argv)
    suite = importlib.import_module(SUITES[arguments.suite])
    more = {name: value for name in _OF_ONE_SUITE if (value := getattr(arguments, name)) is not None}
    for name in more.keys() - inspect.signature(suite.run).parameters.keys():
        parser.error(f"--{name} is for the suite {_OF_ONE_SUITE[name]}; the suite {arguments.suite} has no use for it")
    only = frozenset(filter(None, arguments.only.split(",")))
    if only - set(suite.ROWS):
        parser.error(f"no such row: {', '.join(sorted(only - set(suite.ROWS)))}; there are {', '.join(suite.ROWS)}")
    wanted = only or frozenset(suite.ROWS)
    report = asyncio.run(suite.run(rounds=arguments.rounds, seconds=arguments.seconds, wanted=wanted, **more))
    return 0 if report.all_ok() else 1


def _count(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 (was {text!r})")
    return number


def _file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"no such file: {text}")
    return path


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of seconds over 0 (was {text!r})")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
