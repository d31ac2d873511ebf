"""`python -m benchmarks SUITE`: JSON lines on standard output, a table on standard error."""

import argparse
import asyncio
import importlib
import sys

SUITES = {"core": "benchmarks.core"}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("suite", choices=sorted(SUITES))
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds; the median is reported (default 5)")
    parser.add_argument("--only", default="", help="rows to run, separated by commas (default all)")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one measurement (default 2)")
    arguments = parser.parse_args()
    suite = importlib.import_module(SUITES[arguments.suite])
    report = asyncio.run(
        suite.run(
            rounds=arguments.rounds,
            seconds=arguments.seconds,
            only=frozenset(filter(None, arguments.only.split(","))),
        )
    )
    return 0 if report.all_ok() else 1


if __name__ == "__main__":
    sys.exit(main())
