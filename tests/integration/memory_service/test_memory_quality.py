"""The notes of many bots are found by questions in other words and languages, with the default embedder."""

from pathlib import Path

from benchmarks.memory_quality import measure, read_notes
from benchmarks.memory_under_test import memory_service


async def test_notes_are_found_by_what_is_asked(tmp_path: Path):
    material = read_notes()
    assert sum(len(notes) for bot, notes in material.memories.items() if bot != "everything") >= 200
    assert len({(each.bot, each.text) for each in material.questions}) >= 400  # each apart, and among all
    async with memory_service(tmp_path, vector_batch=32) as memory:
        scores = await measure(memory, material)
    for group, recall, rank in (("apart", 0.97, 0.90), ("pooled", 0.95, 0.82), ("pooled language", 0.96, 0.9)):
        summary = scores[group].summary()
        assert summary["R@5"] >= recall, (group, summary)
        assert summary["MRR"] >= rank, (group, summary)
