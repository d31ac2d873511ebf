"""Row `quality` of the suite `memory`: how well memories are found, with each embedder that needs no network."""

from pathlib import Path

from benchmarks.memory_quality import ask, read_locomo, read_notes
from benchmarks.processes import say
from benchmarks.report import Report

_TARGETS = {"minilm": {"R@5": 0.69, "R@10": 0.78}, "static": {"R@10": 0.72}}
"""For all of LoCoMo's questions that have an answer."""


async def report_quality(report: Report, locomo: Path | None) -> None:
    """The notes of many bots, which have no target, and LoCoMo if its file is there."""
    if locomo is None:
        say("  LoCoMo is not in the repository; its rows need --locomo PATH")
    for embedder, targets in _TARGETS.items():
        of_notes = await ask(read_notes(), embedder)
        for group in ("apart", "pooled"):
            recall = of_notes[group].summary()["R@10"]
            report.reported(f"notes of many bots, {group}, {embedder}, R@10", [recall])
        if locomo is not None:
            found = (await ask(read_locomo(locomo), embedder))["all"].summary()
            for name, least in targets.items():
                report.absolute(f"LoCoMo, {embedder}, {name}", [found[name]], bound="at least", limit=least)
