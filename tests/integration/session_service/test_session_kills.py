"""A process that dies at a commit picked by chance: nothing acknowledged is lost, and nothing is there in part."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from session_stores import name
from sqlalchemy import select

from session_service.models import EVENT, SESSION, SESSION_COUNT, TRANSCRIPT
from session_service.store.log import EventFilter

DEATHS = (("before", 3), ("after", 17), ("before", 31), ("after", 5))


def rows(conn, table, *columns):
    return [tuple(row) for row in conn.execute(select(*columns).select_from(table)).all()]


@pytest.mark.timeout(240)
async def test_deaths_around_commits_lose_nothing_and_halve_nothing(database_url, open_stores):
    acknowledged: list[tuple[str, int, str]] = []
    delivered: list[int] = []
    for moment, commits in DEATHS:
        resume = delivered[-1] if delivered else 0
        victim = subprocess.run(
            [sys.executable, "session_victim.py", database_url, moment, str(commits), str(resume)],
            cwd=Path(__file__).parent, capture_output=True, timeout=120, check=False,
        )  # fmt: skip
        assert victim.returncode == 9, victim.stderr.decode()
        for line in victim.stdout.decode().splitlines():
            kind, *rest = line.split(" ")
            if kind == "w":
                delivered.append(int(rest[0]))
            else:
                acknowledged.append((rest[0], int(rest[1]), rest[2]))
    store = await open_stores()

    events = await store.read(
        lambda conn: rows(conn, EVENT, EVENT.c.position, EVENT.c.session, EVENT.c.sequence, EVENT.c.transcript)
    )
    positions = sorted(position for position, *_ in events)
    assert positions == list(range(1, len(positions) + 1))
    # A watch that went on in the next process each time: all from the beginning, once and in order.
    assert delivered == positions[: len(delivered)]

    sessions = await store.read(
        lambda conn: rows(conn, SESSION, SESSION.c.pk, SESSION.c.name, SESSION.c.last_sequence, SESSION.c.state)
    )
    transcripts = dict(await store.read(lambda conn: rows(conn, TRANSCRIPT, TRANSCRIPT.c.pk, TRANSCRIPT.c.session)))
    for pk, _, last, _ in sessions:
        assert sorted(sequence for _, session, sequence, _ in events if session == pk) == list(range(1, last + 1))
    assert all(transcripts[transcript] == session for _, session, _, transcript in events)
    counted = await store.read(lambda conn: rows(conn, SESSION_COUNT, SESSION_COUNT.c.state, SESSION_COUNT.c.sessions))
    assert {state: count for state, count in counted if count} == Counter(state for *_, state in sessions)

    assert acknowledged
    for session in {session for session, *_ in acknowledged}:
        page = await store.list_events(name(session), EventFilter(uid="*"), size=100_000, max_bytes=1 << 28)
        stored = {(session, event.sequence) for event in page.events}
        assert {(session, sequence) for of, sequence, _ in acknowledged if of == session} <= stored
        for of, sequence, event_id in acknowledged:
            if of == session:
                assert (await store.get_event(name(session), event_id=event_id)).sequence == sequence
