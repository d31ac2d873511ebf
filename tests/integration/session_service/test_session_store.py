"""The store on both engines: order, atomicity, what survives a failed commit, and what several replicas see."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from session_stores import append, draft, finished, message, name, started

from chassis.errors import AppError
from session_service.domain import errors
from session_service.domain.event import EventKind
from session_service.domain.session import SessionState, SessionStatus
from session_service.store import changing, grouping, log, purging
from session_service.store.filtering import SessionFilter
from session_service.store.listing import SessionOrder
from session_service.store.log import EventFilter
from session_service.store.store import Claim, Replayed


class Ear:
    """Hears of commits."""

    def __init__(self, *, wants_sessions: bool = False) -> None:
        self.wants_sessions = wants_sessions
        self.events = []
        self.sessions = []

    def committed(self, events, sessions) -> None:
        self.events.extend(events)
        self.sessions.extend(sessions)


async def whole_log(store) -> list[tuple[int, str, int]]:
    """(position, session id, sequence) of every event."""
    lines, after = [], 0
    while True:
        found = await store.read_log(after, limit=7)
        lines += [(event.position, event.session_id, event.sequence) for event in found.events]
        if found.through == after:
            return lines
        after = found.through


async def history(store, session_id: str, **which):
    return await store.list_events(name(session_id), EventFilter(**{"uid": "*", **which}), size=1000, max_bytes=1 << 30)


async def create(store, session_id: str, *, policy: str = "FAIL", **fields):
    return await store.write(
        lambda tx: changing.create_session(tx, draft(session_id, **fields), "operators/root", policy=policy)
    )


async def test_positions_are_dense_and_sequences_gap_free(store):
    ear = Ear()
    store.listen(ear)
    await create(store, "a")
    await store.append_many(
        [append("a", message("1")), append("b", message("1"), message("2")), append("a", message("2"))]
    )
    await store.append(append("b", message("3")))
    log = await whole_log(store)
    assert log == [
        (1, "a", 1),
        (2, "a", 2),
        (3, "b", 1),
        (4, "b", 2),
        (5, "b", 3),
        (6, "a", 3),
        (7, "b", 4),
    ]
    assert [(event.position, event.session_id, event.sequence) for event in ear.events] == log


async def test_what_is_heard_is_what_is_read(store):
    ear = Ear(wants_sessions=True)
    store.listen(ear)
    await store.append(append("a", message("1", "words", run="r1"), started("r1"), epoch=3))
    read = (await store.read_log(0, limit=10)).events
    assert [event._replace(epoch=0, detail=None) for event in ear.events] == list(read)
    assert [event.epoch for event in ear.events] == [0, 3, 3]
    assert [session.head.status for session in ear.sessions] == [SessionStatus.RUNNING]
    assert ear.sessions == [await store.get_session(name("a"))]


async def test_a_refused_append_leaves_no_trace_and_hinders_nobody(store):
    await store.append(append("a", message("1"), epoch=5))
    before = await store.get_session(name("a"))
    results = await store.append_many(
        [
            append("a", message("2"), epoch=4),
            append("a", message("2"), message("1", run="r")),
            append("missing", message("1"), ensure=None),
            append("b", message("1")),
        ]
    )
    assert [type(result) for result in results[:3]] == [errors.Fenced, errors.EventIdReused, errors.SessionNotFound]
    assert not isinstance(results[3], AppError)
    assert await store.get_session(name("a")) == before
    positions = [line[0] for line in await whole_log(store)]
    assert positions == list(range(1, len(positions) + 1))


async def test_a_failed_commit_is_forgotten_whole(open_stores):
    failing = False

    def hook(stage: str) -> None:
        if failing and stage == "before":
            raise RuntimeError("the commit fails")

    store = await open_stores(commit_hook=hook)
    await store.append(append("a", message("1"), started("r1"), epoch=1))
    before = await store.get_session(name("a"))
    failing = True
    with pytest.raises(RuntimeError):
        await store.append(append("a", message("2"), finished("r1"), epoch=9))
    with pytest.raises(RuntimeError):
        await store.append(append("a", message("1"), epoch=9))
    failing = False
    assert await store.get_session(name("a")) == before
    done = await store.append(append("a", message("3"), epoch=1, return_session=True))
    assert list(done.sequences) == [4]
    assert (done.session.head.mark, done.session.head.active_runs) == (1, ("r1",))


async def test_a_write_with_a_bug_fails_alone(store):
    await store.append(append("a", message("1"), epoch=1))

    def bug(tx):
        raise RuntimeError("a bug")

    done = await asyncio.gather(
        store.append(append("a", message("2"), epoch=2)),
        store.write(bug),
        store.append(append("a", message("3"), epoch=3)),
        return_exceptions=True,
    )
    assert [list(done[0].sequences), type(done[1]), list(done[2].sequences)] == [[3], RuntimeError, [4]]
    assert (await store.get_session(name("a"))).head.last_sequence == 4
    assert [line[0] for line in await whole_log(store)] == [1, 2, 3, 4]


async def test_changes_and_appends_of_one_commit_see_one_another(store):
    await create(store, "a")

    async def together():
        first = store.append(append("a", message("1")))
        reset = store.write(lambda tx: changing.reset_session(tx, name("a"), changing.Expected(), "", "x"))
        second = store.append(append("a", message("2")))
        return await asyncio.gather(first, reset, second)

    first, reset, second = await together()
    assert (list(first.sequences), reset.head.last_sequence, list(second.sequences)) == ([2], 3, [4])
    page = await history(store, "a", uid=None)
    assert [event.sequence for event in page.events] == [3, 4]
    assert {event.uid for event in page.events} == {reset.head.uid}


async def test_everything_survives_closing_and_opening(open_stores, database_url, clock):
    store = await open_stores()
    await create(store, "a", label="A", tags=("x", "y"), overrides={"k": "v"}, pinned=True, persistent=True)
    await store.append(append("a", message("1", run="r1"), started("r1"), finished("r1"), epoch=4))
    before = await store.get_session(name("a"))
    log = await whole_log(store)
    await store.close()
    again = await open_stores()
    assert await again.get_session(name("a")) == before
    assert await whole_log(again) == log
    duplicate = await again.append(append("a", message("1", run="r1")))
    assert list(duplicate.duplicates) == [True]


async def test_a_request_is_done_once(store):
    claim = Claim("operators/root", "CreateSession", "r1", "f", lambda creation: creation.session.head.uid.encode())
    first = await store.write(
        lambda tx: changing.create_session(tx, draft("a"), "operators/root", policy="FAIL"), claim
    )
    again = await store.write(
        lambda tx: changing.create_session(tx, draft("a"), "operators/root", policy="FAIL"), claim
    )
    assert isinstance(again, Replayed)
    assert again == first.session.head.uid.encode()


async def test_all_lists_agree_with_a_sorted_whole(store, clock):
    for number in range(23):
        clock.advance(timedelta(seconds=number % 3))
        await create(store, f"s{number * 7 % 23:02}", pinned=number % 5 == 0)
    everything = (await store.list_sessions(SessionFilter(), SessionOrder.NAME, size=100)).sessions
    keys = {
        SessionOrder.NAME: lambda s: s.name,
        SessionOrder.CREATED: lambda s: (-s.create_time, s.name),
        SessionOrder.ACTIVITY: lambda s: (-s.head.last_activity_time, s.name),
        SessionOrder.PINNED: lambda s: (not s.fields.pinned, -s.head.last_activity_time, s.name),
    }
    for order, key in keys.items():
        expected = [session.name for session in sorted(everything, key=key)]
        seen, after = [], None
        while True:
            page = await store.list_sessions(SessionFilter(), order, size=4, after=after, count=True)
            seen += [session.name for session in page.sessions]
            assert page.total == 23
            after = page.position
            if after is None:
                break
        assert seen == expected, order
        offset = await store.list_sessions(SessionFilter(), order, size=4, offset=9)
        assert [session.name for session in offset.sessions] == expected[9:13]


async def test_the_log_of_one_session_is_read_from_any_position(store):
    for number in range(30):
        await store.append(append("ab"[number % 2], message(str(number))))
    key = (await store.get_session(name("a"))).head.pk
    everything = [line for line in await whole_log(store) if line[1] == "a"]
    for after in range(0, 33):
        found = await store.read_log(after, limit=100, sessions=[key])
        assert [event.position for event in found.events] == [line[0] for line in everything if line[0] > after]
    some = await store.read_log(0, limit=100, sessions=[key, 999], kinds=[int(EventKind.SESSION_CREATED)])
    assert [event.sequence for event in some.events] == [1]
    assert (await store.read_log(0, limit=100, sessions=[])).events == []


async def test_what_was_read_before_hides_no_change(store):
    """A list and a single read look at what was kept; `log.get_session` does not."""
    at = changing.NOTHING_EXPECTED
    await create(store, "a", label="A", group="Work")
    changes = [
        lambda: store.append(append("a", message("1"))),
        lambda: store.append(append("a", message("1"), epoch=4)),  # a duplicate that raises the mark
        lambda: store.append(append("a", started("r"), epoch=4)),
        lambda: store.append(append("a", finished("r"), epoch=4)),
        lambda: store.write(lambda tx: changing.update_session(tx, name("a"), lambda f: replace(f, unread=True), "x")),
        lambda: store.write(lambda tx: grouping.update_groups(tx, [], {"Work": "Office"}, [])),
        lambda: store.write(lambda tx: grouping.update_groups(tx, [], {}, ["Office"])),
        lambda: store.write(lambda tx: changing.reset_session(tx, name("a"), at, "", "x")),
        lambda: store.write(lambda tx: changing.archive_session(tx, name("a"), at, "", "x")),
        lambda: store.write(lambda tx: changing.unarchive_session(tx, name("a"), "x")),
    ]
    for change in changes:
        before = await store.get_session(name("a"))
        await change()
        after = await store.read(lambda conn: log.get_session(conn, name("a")))
        assert after != before
        assert await store.get_session(name("a")) == after
        both = SessionFilter(states=[SessionState.ACTIVE, SessionState.ARCHIVED])
        assert (await store.list_sessions(both, SessionOrder.PINNED, size=10)).sessions == [after]
        assert (await history(store, "a")).session == after


async def test_groups_follow_their_sessions(store):
    await create(store, "a", group="Work")
    page = await store.write(lambda tx: grouping.update_groups(tx, ["Home"], {"Work": "Office"}, []))
    assert [(group.name, group.session_count) for group in page.groups] == [("Home", 0), ("Office", 1)]
    assert (await store.get_session(name("a"))).fields.group == "Office"


async def test_a_purged_session_leaves_nothing_but_a_gap(store):
    await create(store, "a", label="A", tags=("x",))
    await create(store, "b")
    await store.append(append("a", message("1")))
    await store.write(
        lambda tx: changing.delete_session(tx, name("a"), changing.Expected(), "x", retention_us=0, allow_missing=False)
    )
    assert await store.write(lambda tx: purging.purge_session(tx, name("a"), "")) == 4
    assert await whole_log(store) == [(2, "b", 1)]
    assert (await store.log_range()).purged == 5
    await create(store, "c", label="A", tags=("x",))
    assert [line[0] for line in await whole_log(store)] == [2, 6]


async def test_text_that_only_looks_like_a_pattern_is_taken_literally(store):
    await create(store, "a", description="100% of it_all \\ ÄÖÜ")
    for text, fits in (("100%", True), ("it_all", True), ("itxall", False), ("\\", True), ("äöü", True)):
        page = await store.list_sessions(SessionFilter(text=text), SessionOrder.NAME, size=10)
        assert bool(page.sessions) is fits, text


async def test_states_are_kept_apart(store):
    for session_id in ("active", "archived", "deleted"):
        await create(store, session_id)
    await store.write(lambda tx: changing.archive_session(tx, name("archived"), changing.Expected(), "", "x"))
    await store.write(
        lambda tx: changing.delete_session(
            tx, name("deleted"), changing.Expected(), "x", retention_us=0, allow_missing=False
        )
    )
    for state in SessionState:
        page = await store.list_sessions(SessionFilter(states=[state]), SessionOrder.PINNED, size=10)
        assert [session.head.session_id for session in page.sessions] == [state.name.lower()]
    both = SessionFilter(states=[SessionState.ACTIVE, SessionState.ARCHIVED])
    page = await store.list_sessions(both, SessionOrder.PINNED, size=10)
    assert len(page.sessions) == 2
