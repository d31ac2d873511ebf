"""A memory service with the default embedder, a hundred bots and a search in each: prints how much memory it takes."""

import asyncio
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import psutil

from benchmarks.memory_under_test import memory_service
from mobot.memory.v1 import memory_pb2

BOTS = 100
NOTES = 200


async def main() -> None:
    process = psutil.Process()
    with tempfile.TemporaryDirectory(prefix="mobot-bench-") as scratch:
        async with memory_service(Path(scratch), vector_batch=32) as memory:
            idle = process.memory_info().rss / 1e6
            for number in range(BOTS):
                texts = [f"bot {number} remembers that thing {place} costs {place * number}" for place in range(NOTES)]
                await memory.put(f"b{number}", [memory_pb2.Memory(text=text) for text in texts])
            await memory.embedded()
            for number in range(BOTS):
                await memory.search(f"b{number}", "what does thing 7 cost", 10)
            warm = process.memory_info().rss / 1e6
    print(json.dumps({"idle_mb": round(idle, 1), "rss_mb": round(warm, 1), "bots": BOTS, "notes_each": NOTES}))


asyncio.run(main())
