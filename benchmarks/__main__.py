"""`python -m benchmarks SUITE`: JSON lines on standard output, a table on standard error."""

import argparse
import asyncio
import importlib
import sys

SUITES = {
    "core": "benchmarks.core",
    "mail": "benchmarks.mail",
    "sessions": "benchmarks.sessions",
    "memory": "benchmarks.memory",
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("suite", choices=sorted(SUITES))
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds; the median is reported (default 5)")
    parser.add_argument("--only", default="", help="rows to run, separated by commas (default all)")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one measurement (default 2)")
    parser.add_argument("--messages", type=int, help="suite mail: how many are stored for the row `stored`")
    arguments = parser.parse_args()
    suite = importlib.import_module(SUITES[arguments.suite])
    more = {} if arguments.messages is None else {"messages": arguments.messages}
    only = frozenset(filter(None, arguments.only.split(",")))
    if only - set(suite.ROWS):
        parser.error(f"no such row: {', '.join(sorted(only - set(suite.ROWS)))}; there are {', '.join(suite.ROWS)}")
    wanted = only or frozenset(suite.ROWS)
    report = asyncio.run(suite.run(rounds=arguments.rounds, seconds=arguments.seconds, wanted=wanted, **more))
    return 0 if report.all_ok() else 1


if __name__ == "__main__":
    sys.exit(main())
