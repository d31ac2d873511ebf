"""How well memories are found: recall and reciprocal rank of questions whose answers are known.

    python -m benchmarks.memory_quality                     the notes of many bots that come with this repository
    python -m benchmarks.memory_quality --locomo PATH       LoCoMo's locomo10.json (CC BY-NC 4.0, not in here)

Every memory and every question goes through the service as a client's would. One JSON line for each group:
recall at 5, 10 and 20 (the share of a question's evidence among the first hits), the mean reciprocal rank of the first
evidence, and 95 % confidence intervals. LoCoMo's conversations are reported in two halves: whatever is tuned is tuned
on the even one (0, 2, 4 ...) alone.
"""

import argparse
import asyncio
import json
import random
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.memory_under_test import MemoryUnderTest, memory_service
from benchmarks.processes import say
from mobot.memory.v1 import memory_pb2, memory_service_pb2

NOTES = Path(__file__).parent / "data" / "notes.json"
DEPTHS = (5, 10, 20)
POOLED = "everything"
_RESAMPLES = 1_000
_CATEGORIES = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop"}
_DATE = "%I:%M %p on %d %B, %Y"

RetrievalShape = memory_service_pb2.RetrievalShape


@dataclass(frozen=True, slots=True)
class Question:
    """`evidence` are keys of memories; `groups` are what the question is counted under."""

    bot: str
    text: str
    evidence: tuple[str, ...]
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Material:
    """Memories of each bot by their keys, and questions about them."""

    memories: Mapping[str, Mapping[str, memory_pb2.Memory]]
    questions: Sequence[Question]
    shape: "RetrievalShape.ValueType" = memory_service_pb2.RETRIEVAL_SHAPE_NOTES


@dataclass(slots=True)
class Scores:
    recalls: list[tuple[float, ...]] = field(default_factory=list)
    reciprocal_ranks: list[float] = field(default_factory=list)

    def add(self, evidence: Sequence[str], found: Sequence[str]) -> None:
        places = [found.index(key) if key in found else len(found) + max(DEPTHS) for key in evidence]
        self.recalls.append(tuple(sum(place < depth for place in places) / len(places) for depth in DEPTHS))
        first = min(places)
        self.reciprocal_ranks.append(1 / (first + 1) if first < max(DEPTHS) else 0.0)

    def summary(self) -> dict[str, Any]:
        columns = {f"R@{depth}": [each[place] for each in self.recalls] for place, depth in enumerate(DEPTHS)}
        columns["MRR"] = self.reciprocal_ranks
        measured: dict[str, Any] = {}
        for name, values in columns.items():
            low, high = _interval(values)
            measured[name] = round(sum(values) / len(values), 4)
            measured[f"{name} 95%"] = [round(low, 4), round(high, 4)]
        return measured | {"n": len(self.recalls)}


def _interval(values: Sequence[float]) -> tuple[float, float]:
    """Of the mean, by resampling the questions."""
    dice = random.Random(7)
    means = sorted(sum(dice.choices(values, k=len(values))) / len(values) for _ in range(_RESAMPLES))
    return means[int(0.025 * _RESAMPLES)], means[int(0.975 * _RESAMPLES)]


def read_locomo(path: Path) -> Material:
    """Turns as memories, with their neighbours and the day as context; questions with an answer (categories 1 to 4)."""
    memories: dict[str, dict[str, memory_pb2.Memory]] = {}
    questions: list[Question] = []
    for number, each in enumerate(json.loads(path.read_text())):
        bot = f"conversation-{number}"
        memories[bot] = dict(_turns(bot, each["conversation"]))
        half = "odd" if number % 2 else "even"
        for asked in each["qa"]:
            # Some evidence is malformed: "D8:6; D9:17" in one string, or "D:11:26".
            named = [key.replace("D:", "D") for text in asked["evidence"] for key in re.findall(r"D:?\d+:\d+", text)]
            evidence = tuple(key for key in named if key in memories[bot])
            if asked["category"] in _CATEGORIES and evidence:
                groups = ("all", half, f"all {_CATEGORIES[asked['category']]}")
                questions.append(Question(bot, asked["question"], evidence, groups))
    return Material(memories, questions, memory_service_pb2.RETRIEVAL_SHAPE_DIALOGUE)


def _turns(bot: str, conversation: Mapping[str, Any]) -> Iterator[tuple[str, memory_pb2.Memory]]:
    numbers = sorted(int(key[8:]) for key in conversation if re.fullmatch(r"session_\d+", key))
    for number in numbers:
        turns = conversation[f"session_{number}"]
        texts = [_said(turn) for turn in turns]
        happened = datetime.strptime(conversation[f"session_{number}_date_time"].upper(), _DATE).replace(tzinfo=UTC)
        day = f"{happened.day} {happened:%B}, {happened.year}"
        for place, (turn, text) in enumerate(zip(turns, texts, strict=True)):
            around = [day, *texts[max(0, place - 1) : place], *texts[place + 1 : place + 2]]
            memory = memory_pb2.Memory(
                text=text,
                author=turn["speaker"],
                context=" ".join(around),
                kind=memory_pb2.MEMORY_KIND_EPISODE,
                provenance=memory_pb2.Provenance(session=f"bots/{bot}/sessions/s{number}", event_sequence=place + 1),
            )
            memory.event_time.FromDatetime(happened)
            yield turn["dia_id"], memory


def _said(turn: Mapping[str, Any]) -> str:
    caption = turn.get("blip_caption")
    return f"{turn['text']} [{caption}]" if caption else str(turn["text"])


def read_notes(path: Path = NOTES) -> Material:
    """The notes of many bots: facts, preferences, events and how-tos, in several languages."""
    document = json.loads(path.read_text())
    memories = {
        bot: {
            key: memory_pb2.Memory(text=note["text"], author=note.get("author", ""), tags=note.get("tags", []))
            for key, note in notes.items()
        }
        for bot, notes in document["bots"].items()
    }
    # Each bot has few notes, so its questions are also asked where the notes of all are one bot's.
    pooled = {key: note for notes in memories.values() for key, note in notes.items()}
    questions = [
        Question(bot, each["ask"], tuple(each["evidence"]), (group, f"{group} {each['kind']}"))
        for each in document["questions"]
        for bot, group in ((each["bot"], "apart"), (POOLED, "pooled"))
    ]
    return Material(memories | {POOLED: pooled}, questions)


async def measure(memory: MemoryUnderTest, material: Material, **fields: Any) -> dict[str, Scores]:
    """Puts the memories, waits for their vectors, and asks every question."""
    keys: dict[str, str] = {}
    for bot, notes in material.memories.items():
        if material.shape != memory_service_pb2.RETRIEVAL_SHAPE_NOTES:
            await memory.shape(bot, material.shape)
        names = await memory.put(bot, list(notes.values()))
        keys.update(zip(names, notes, strict=True))
    await memory.embedded()
    scores: dict[str, Scores] = {}
    for asked in material.questions:
        found = [keys[name] for name in await memory.search(asked.bot, asked.text, max(DEPTHS), **fields)]
        for group in asked.groups:
            scores.setdefault(group, Scores()).add(asked.evidence, found)
    return scores


async def ask(material: Material, embedder: str, mode: str = "HYBRID", threads: int = 2) -> dict[str, Scores]:
    """The scores of each group, from a service of its own."""
    with tempfile.TemporaryDirectory(prefix="mobot-bench-") as scratch:
        settings = {"embedder": embedder, "embedding_threads": threads, "vector_batch": 64}
        async with memory_service(Path(scratch), **settings) as memory:
            wanted = memory_service_pb2.SearchMode.Value(f"SEARCH_MODE_{mode}")
            return await measure(memory, material, mode=wanted)


async def run(material: Material, embedder: str, modes: Sequence[str], threads: int) -> dict[str, dict[str, Any]]:
    """The summary of each group, by "mode group"."""
    summaries: dict[str, dict[str, Any]] = {}
    for mode in modes:
        for group, each in sorted((await ask(material, embedder, mode, threads)).items()):
            summary = each.summary()
            summaries[f"{mode} {group}"] = summary
            print(json.dumps({"embedder": embedder, "mode": mode, "group": group, **summary}), flush=True)
            shown = "  ".join(f"{name} {summary[name]:.3f}" for name in ("R@5", "R@10", "R@20", "MRR"))
            say(f"{embedder} {mode:7} {group:18} {shown}  n {summary['n']}")
    return summaries


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.memory_quality", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--locomo", type=Path, help="path of locomo10.json; without it the notes are asked about")
    parser.add_argument("--embedder", default="minilm", choices=("minilm", "static", "hash"))
    parser.add_argument("--modes", default="HYBRID", help="HYBRID, TEXT, VECTOR, separated by commas")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    material = read_locomo(arguments.locomo) if arguments.locomo else read_notes()
    asyncio.run(run(material, arguments.embedder, arguments.modes.split(","), arguments.threads))
    return 0


if __name__ == "__main__":
    sys.exit(main())
