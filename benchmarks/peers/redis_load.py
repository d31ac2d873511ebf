"""XADD by many callers, XREADGROUP and XACK by one consumer: `redis_load.py PORT CALLERS SECONDS`.

A message counts when its XADD was answered and the consumer has read and acknowledged it.
"""

import asyncio
import json
import sys
import time

import redis.asyncio

BODY = b"x" * 150
SESSIONS = 256
STREAM, GROUP = "mail", "workers"


async def main(port: int, callers: int, seconds: float) -> None:
    pool = redis.asyncio.Redis(port=port, max_connections=callers + 4)
    reader = redis.asyncio.Redis(port=port)
    await pool.flushall()
    await pool.xgroup_create(STREAM, GROUP, id="$", mkstream=True)
    sent = got = 0
    start = time.perf_counter()
    end = start + seconds

    async def send() -> None:
        nonlocal sent
        while time.perf_counter() < end:
            sent += 1
            await pool.xadd(STREAM, {"session": f"s{sent % SESSIONS}", "body": BODY})

    async def take() -> None:
        nonlocal got
        while True:
            answer = await reader.xreadgroup(GROUP, "one", {STREAM: ">"}, count=256, block=100)
            streams = list(answer.values()) if isinstance(answer, dict) else [entries for _, entries in answer or ()]
            for entries in streams:
                flat = entries[0] if entries and isinstance(entries[0], list) else entries
                if flat:
                    await reader.xack(STREAM, GROUP, *[identity for identity, _ in flat])
                    got += len(flat)

    taking = asyncio.create_task(take())
    await asyncio.gather(*(send() for _ in range(callers)))
    async with asyncio.timeout(30):
        while got < sent and not taking.done():  # noqa: ASYNC110 - a thousandth of the time measured
            await asyncio.sleep(0.001)
    elapsed = time.perf_counter() - start
    if taking.done():
        taking.result()
    taking.cancel()
    await asyncio.gather(taking, return_exceptions=True)
    print(json.dumps({"rate": got / elapsed, "sent": sent}), flush=True)
    await pool.aclose()
    await reader.aclose()


asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
