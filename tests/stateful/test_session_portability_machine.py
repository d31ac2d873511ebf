"""Properties of sessions that leave and come back: import(export(s)) = s, and a merge does not depend on its order."""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from pathlib import Path

import pytest
from engines import EmbeddedPostgres
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from session_world import World, append_to, create, finished, message, name, pb, started

from chassis.upgrading import upgrade_database
from mobot.session.v1 import event_pb2, part_pb2
from session_service.__main__ import MIGRATIONS

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("say"), TEXTS),
        st.tuples(st.just("data"), st.binary(max_size=20)),
        st.tuples(st.just("run"), st.sampled_from(["r1", "r2", "r3"])),
        st.tuples(st.just("end"), st.sampled_from(["r1", "r2", "r3"])),
        st.tuples(st.just("sum"), TEXTS),
        st.tuples(st.just("label"), st.sampled_from(["", "One", "Two"])),
        st.tuples(st.just("reset"), st.none()),
        st.tuples(st.just("archive"), st.none()),
        st.tuples(st.just("unarchive"), st.none()),
        st.tuples(st.just("wait"), st.integers(0, 200_000)),
    ),
    max_size=12,
)
PROPERTY = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))


@cache
def empty_store() -> tempfile.TemporaryDirectory[str]:
    directory = tempfile.TemporaryDirectory(prefix="mobot-property-")
    upgrade_database(f"sqlite:///{directory.name}/store.sqlite3", MIGRATIONS)
    return directory


@pytest.fixture(autouse=True, scope="module")
def _no_store_is_left() -> Iterator[None]:
    yield
    empty_store().cleanup()
    empty_store.cache_clear()


class Place:
    """A service on a store of its own, on one of the engines."""

    def __init__(self, engine: str, server: EmbeddedPostgres | None, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.directory = Path(tempfile.mkdtemp(prefix="mobot-property-"))
        self._server = server
        if engine == "sqlite":
            shutil.copy(Path(empty_store().name) / "store.sqlite3", self.directory)
            url = f"sqlite:///{self.directory / 'store.sqlite3'}"
        else:
            assert server is not None
            url = server.create_database(MIGRATIONS)
        self._url = url
        self.world = World(url, data_dir=self.directory)
        self.do(self.world.start())

    def do(self, work):
        return self._loop.run_until_complete(asyncio.wait_for(work, 60))

    def close(self) -> None:
        self.do(self.world.stop())
        if self._server is not None and self._url.startswith("postgresql"):
            self._server.retire_database(self._url)
        shutil.rmtree(self.directory)


@pytest.fixture(params=["sqlite", "postgresql"])
def places(request):
    """Makes places; they are gone after the test."""
    server = request.getfixturevalue("postgres_server") if request.param == "postgresql" else None
    loop = asyncio.new_event_loop()
    made: list[Place] = []

    def make() -> Place:
        made.append(Place(request.param, server, loop))
        return made[-1]

    yield make
    for place in made:
        place.close()
    loop.close()


async def play(world: World, session: str, steps) -> None:
    """Does the steps; what the service refuses is no part of the property."""
    stub = world.stub()
    await create(stub, session, tags=["t"], overrides={"k": "v"})
    for number, (verb, value) in enumerate(steps):
        event_id = f"{number}"
        act = None
        match verb:
            case "say":
                act = append_to(stub, name(session), message(event_id, value))
            case "data":
                part = part_pb2.Part(data=part_pb2.DataPart(value=value))
                said = event_pb2.MessageAppended(role=event_pb2.ROLE_ASSISTANT, parts=[part])
                act = append_to(stub, name(session), event_pb2.Event(id=event_id, message=said), epoch=number)
            case "run":
                act = append_to(stub, name(session), started(value))
            case "end":
                act = append_to(stub, name(session), finished(value, usage=part_pb2.Usage(input_tokens=number)))
            case "sum":
                summary = event_pb2.SummaryAppended(text=value, through_sequence=1)
                act = append_to(stub, name(session), event_pb2.Event(id=event_id, summary=summary))
            case "label":
                request = pb.UpdateSessionRequest(update_mask={"paths": ["label"]})
                request.session.name, request.session.label = name(session), value
                act = stub.UpdateSession(request)
            case "reset":
                act = stub.ResetSession(pb.ResetSessionRequest(name=name(session)))
            case "archive":
                act = stub.ArchiveSession(pb.ArchiveSessionRequest(name=name(session)))
            case "unarchive":
                act = stub.UnarchiveSession(pb.UnarchiveSessionRequest(name=name(session)))
            case "wait":
                world.clock.advance(timedelta(seconds=value))
        if act is not None:
            await asyncio.gather(act, return_exceptions=True)


async def whole(world: World, session: str):
    stub = world.stub()
    view = pb.SessionView(derived_title=True, last_message_preview=True)
    found = (await stub.GetSession(pb.GetSessionRequest(name=name(session), view=view))).session
    request = pb.ListEventsRequest(parent=name(session), filter=pb.EventFilter(session_uid="*"), page_size=1_000)
    return found, list((await stub.ListEvents(request)).events)


async def carry(source: World, target: World, session: str) -> None:
    export = pb.ExportSessionRequest(name=name(session), format=pb.EXPORT_FORMAT_ARCHIVE)
    pieces = [pb.ImportSessionsRequest(chunk=piece.chunk) async for piece in source.stub().ExportSession(export)]

    async def sent():
        for piece in pieces:
            yield piece

    report = await target.stub().ImportSessions(sent())
    assert (report.created_count, list(report.problems)) == (1, [])


@pytest.mark.stateful
def test_what_is_exported_and_imported_is_the_same_session(places):
    @PROPERTY
    @given(steps=STEPS)
    def holds(steps):
        async def run():
            session = f"s{next(numbers)}"
            await play(here, session, steps)
            await carry(here, there, session)
            try:
                assert await whole(there, session) == await whole(here, session)
            finally:
                await here.stub().UpdateSession(unlabel(session))
                await there.stub().UpdateSession(unlabel(session))

        place.do(run())

    numbers = iter(range(1_000_000))
    place, other = places(), places()
    here, there = place.world, other.world
    holds()


def unlabel(session: str) -> pb.UpdateSessionRequest:
    """Labels are one bot's: the next example is to have them all again."""
    request = pb.UpdateSessionRequest(update_mask={"paths": ["label"]})
    request.session.name = name(session)
    return request


@pytest.mark.stateful
def test_a_merge_is_the_same_whatever_the_order_of_its_sources(places):
    @PROPERTY
    @given(
        turns=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2)), max_size=12),
        order=st.permutations(["a", "b", "c"]),
        in_use=st.booleans(),
    )
    def holds(turns, order, in_use):
        async def run():
            at = next(numbers)
            stub = world.stub()
            names = {key: f"{key}{at}" for key in "abc"}
            for session in names.values():
                await create(stub, session)
            for number, (key, seconds) in enumerate(turns):
                await append_to(stub, name(names[key]), message(f"{number}", f"{key}{number}"))
                world.clock.advance(timedelta(seconds=seconds))
            logs = []
            for target, keys in ((f"x{at}", sorted(order)), (f"y{at}", order)):
                if in_use:
                    for said in ("before", "just before"):
                        await append_to(stub, name(target), message(said, said), ensure=True)
                sources = [name(names[key]) for key in keys]
                request = pb.MergeSessionsRequest(sources=sources, target=name(target))
                merged = await stub.MergeSessions(request)
                assert merged.event_count == len(turns)
                assert (await stub.MergeSessions(request)).event_count == 0
                after = await append_to(stub, name(target), message("after", "after"), ensure=True)
                _, events = await whole(world, target)
                assert [event.sequence for event in events] == list(range(1, after.sequences[0] + 1))
                logs.append([(each.id, each.message, each.origin) for each in events if each.HasField("message")])
            assert logs[0] == logs[1]
            for key in "abc":
                own = [said.parts[0].text for _, said, origin in logs[0] if origin.session == name(names[key])]
                assert own == [f"{key}{number}" for number, (other, _) in enumerate(turns) if other == key]

        place.do(run())

    numbers = iter(range(1_000_000))
    place = places()
    world = place.world
    holds()
