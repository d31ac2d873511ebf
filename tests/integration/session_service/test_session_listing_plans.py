"""How lists are read: by an index and in its order, whatever the filter, so that a page costs what it shows."""

import re
from dataclasses import replace

import pytest
from sqlalchemy import event, text

from session_service.domain.session import Draft, Fields, Provenance, SessionState
from session_service.store import changing, listing
from session_service.store.filtering import SessionFilter
from session_service.store.listing import SessionOrder
from session_service.store.session_cache import SessionCache

BY_RANK = (SessionOrder.PINNED, SessionOrder.ACTIVITY)
COUNT = 2_200  # more than are sorted
FILTERS = {
    "all": SessionFilter(),
    "bot": SessionFilter(bots=["main"]),
    "bots": SessionFilter(bots=["main", "helper"]),
    "archived": SessionFilter(states=[SessionState.ARCHIVED]),
    "both states": SessionFilter(states=[SessionState.ACTIVE, SessionState.ARCHIVED]),
    "group": SessionFilter(group="Large"),
    "group of bot": SessionFilter(group="Large", bots=["main"]),
    "parent": SessionFilter(parent="bots/main/sessions/root"),
    "persistent": SessionFilter(persistent=True),
    "running": SessionFilter(running=True),
    "tag of many": SessionFilter(tags=["many"]),
    "since": SessionFilter(active_since=1),
    "left out": SessionFilter(exclude_ids=["s7"]),
}


def numbered(which: int) -> Draft:
    fields = Fields(
        label=f"Session {which}" if which % 2 else "",
        persistent=bool(which % 2),
        group="Large",
        tags=("many", "rare") if which % 500 == 0 else ("many",),
        pinned=which % 100 == 0,
    )
    provenance = Provenance("operators/root", parent="bots/main/sessions/root")
    return Draft("helper" if which % 10 == 0 else "main", f"s{which}", fields, provenance)


async def filled(store, count: int):
    def fill(tx):
        for which in range(count):
            made = changing.create_session(tx, numbered(which), "x", policy="FAIL")
            tx.flush()
            if which % 20 == 0:
                changing.archive_session(tx, made.session.name, changing.Expected(), "", "x")

    await store.write(fill)
    if store.engine_name == "postgresql":
        await store.derive(lambda conn: conn.execute(text("ANALYZE session")))
    return store


@pytest.fixture
async def full(store):
    return await filled(store, COUNT)


@pytest.fixture
async def some(store):
    return await filled(store, 60)


def plans_of(conn, which, order, after=None):
    """What the engine does for each statement of a page that reads whole sessions."""
    seen = []

    def note(_conn, _cursor, statement, parameters, _context, _many):
        seen.append((statement, parameters))

    sqlite = conn.dialect.name == "sqlite"
    driver = conn.connection.driver_connection
    if sqlite:  # most statements go past SQLAlchemy there
        driver.set_trace_callback(lambda statement: seen.append((statement, ())))
    else:
        event.listen(conn, "before_cursor_execute", note)
    try:
        cache = SessionCache()
        page = listing.list_sessions(conn, which, order, size=20, after=after, offset=0, count=False, cache=cache)
    finally:
        if sqlite:
            driver.set_trace_callback(None)
        else:
            event.remove(conn, "before_cursor_execute", note)
    if not sqlite:
        conn.execute(text("SET LOCAL enable_seqscan = off"))
        conn.execute(text("SET LOCAL enable_sort = off"))
    plans = []
    for statement, parameters in seen:
        if "ORDER BY" in statement:
            how = "EXPLAIN QUERY PLAN " if sqlite else "EXPLAIN "
            rows = conn.exec_driver_sql(how + statement, parameters).all()
            plans.append("\n".join(str(row[-1]) for row in rows))
    return page, plans


def is_in_order_of_an_index(plan: str, engine: str) -> bool:
    if engine == "sqlite":
        return bool(re.search(r"(SEARCH|SCAN) session USING INDEX", plan)) and "TEMP B-TREE FOR ORDER" not in plan
    return "Index" in plan and "Seq Scan on session " not in plan and not re.search(r"^\s*Sort", plan, re.MULTILINE)


INDEXES = {
    "group": "ix_session_group_rank",
    "group of bot": "ix_session_group_rank",
    "parent": "ix_session_parent_rank",
    "persistent": "ix_session_persistent_rank",
    "running": "ix_session_running_rank",
    "bot": "ix_session_bot_rank",
    "all": "ix_session_rank",
}


async def test_a_page_costs_what_it_shows(full):
    for order in SessionOrder:
        for title, which in FILTERS.items():
            page, plans = await full.read(lambda conn, w=which, o=order: plans_of(conn, w, o))
            assert page.sessions or title == "running"
            _, more = await full.read(lambda conn, w=which, o=order, p=page: plans_of(conn, w, o, p.position))
            assert plans
            for plan in (*plans, *more):
                assert is_in_order_of_an_index(plan, full.engine_name), f"{title} by {order}: {plan}"
                if full.engine_name == "sqlite" and order in BY_RANK and title in INDEXES:
                    assert f"USING INDEX {INDEXES[title]} " in plan, f"{title} by {order}: {plan}"
        await pages_hold_what_fits_in_order_each_once(full, order)


async def pages_hold_what_fits_in_order_each_once(full, order):
    everything = {}
    for states in ([SessionState.ACTIVE], [SessionState.ARCHIVED], [SessionState.ACTIVE, SessionState.ARCHIVED]):
        page = await full.list_sessions(SessionFilter(states=states), order, size=COUNT, count=True)
        assert page.total == len(page.sessions)
        everything[tuple(states)] = page.sessions
    for which in (*FILTERS.values(), SessionFilter(tags=["rare"]), SessionFilter(label="SESSION 7")):
        wanted = [
            session.name
            for session in everything[tuple(which.states)]
            if (which.bots is None or session.head.bot in which.bots)
            and (not which.group or session.fields.group == which.group)
            and (not which.parent or session.provenance.parent == which.parent)
            and (which.persistent is None or session.fields.persistent == which.persistent)
            and (which.running is None or bool(session.head.active_runs) == which.running)
            and set(which.tags) <= set(session.fields.tags)
            and (not which.label or session.fields.label == "Session 7")
            and session.head.session_id not in which.exclude_ids
        ]
        got, after = [], None
        while True:
            page = await full.list_sessions(which, order, size=900, after=after, count=True)
            got += [session.name for session in page.sessions]
            assert page.total == len(wanted)
            after = page.position
            if after is None:
                break
        assert got == wanted


async def test_what_fits_a_plain_list_is_known_and_not_counted(some):
    """Also when a filter's empty parts come as lists, as they do from a request."""
    for which in (
        SessionFilter(tags=[]),
        SessionFilter(bots=["main"], tags=[], exclude_ids=["s7", "none"]),
        SessionFilter(states=[SessionState.ACTIVE, SessionState.ARCHIVED], tags=[]),
    ):
        statements = await some.read(lambda conn, which=which: statements_of_count(conn, which))
        for statement, parameters in statements:
            if some.engine_name == "sqlite" and "FROM session " in statement.replace("\n", " ") + " ":
                plan = await some.read(lambda conn, s=statement, p=parameters: plan_of(conn, s, p))
                assert "USING INDEX uq_session_name (name=?)" in plan, plan
        page = await some.list_sessions(which, SessionOrder.NAME, size=COUNT, count=True)
        assert page.total == len(page.sessions)


def plan_of(conn, statement, parameters) -> str:
    rows = conn.exec_driver_sql("EXPLAIN QUERY PLAN " + statement, parameters).all()
    return "\n".join(str(row[-1]) for row in rows)


async def test_a_text_that_few_hold_is_found_by_its_index_and_follows_every_change(some):
    async def found(text, **which):
        page = await some.list_sessions(SessionFilter(text=text, **which), SessionOrder.PINNED, size=50, count=True)
        assert page.total == len(page.sessions)
        return [session.head.session_id for session in page.sessions]

    def relabel(tx):
        return changing.update_session(
            tx, "bots/main/sessions/s7", lambda before: replace(before, label='Ein "Ärger" 100%'), "x"
        )

    assert sorted(await found("SESSION 57")) == ["s57"]
    await some.write(relabel)
    for words in ("ärger", '"ÄRGER"', 'r" 100%', "100%"):
        assert await found(words) == ["s7"], words
    assert await found("session 7\n") == []
    await some.write(lambda tx: changing.archive_session(tx, "bots/main/sessions/s7", changing.Expected(), "", "x"))
    assert await found("ärger") == []
    assert await found("ärger", states=[SessionState.ARCHIVED]) == ["s7"]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_postgresql_looks_few_texts_up(some):
    def with_index(conn):
        seen = []
        event.listen(conn, "before_cursor_execute", lambda *call: seen.append((call[2], call[3])))
        page = listing.list_sessions(
            conn, SessionFilter(text="session 57"), SessionOrder.PINNED, size=20, after=None, offset=0, count=True,
            cache=SessionCache(),
        )  # fmt: skip
        conn.execute(text("SET LOCAL enable_seqscan = off"))
        (asked,) = [call for call in seen if "session_text_fts" in call[0]]
        plan = conn.exec_driver_sql("EXPLAIN " + asked[0], asked[1]).all()
        return page, "\n".join(str(row[0]) for row in plan)

    page, plan = await some.read(with_index)
    assert [session.head.session_id for session in page.sessions] == ["s57"]
    assert page.total == 1
    assert "ix_session_text_words" in plan


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_postgresql_without_the_index_looks_through_the_rows(some):
    await some.derive(lambda conn: conn.execute(text("DROP INDEX ix_session_text_words")))
    page = await some.list_sessions(SessionFilter(text="session 57"), SessionOrder.PINNED, size=20, count=True)
    assert ([session.head.session_id for session in page.sessions], page.total) == (["s57"], 1)


def statements_of_count(conn, which):
    seen = []

    def note(_conn, _cursor, statement, parameters, _context, _many):
        seen.append((statement, parameters))

    event.listen(conn, "before_cursor_execute", note)
    try:
        listing.count_sessions(conn, which)
    finally:
        event.remove(conn, "before_cursor_execute", note)
    return seen
