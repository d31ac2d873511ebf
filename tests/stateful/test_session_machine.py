"""Sessions against a simple model: any order of creating, appending, resetting, going back, putting away, watching,
writing from several sides at once and restarting.

The service is real and called over a local channel; a restart closes the store and opens it again. On PostgreSQL there
are two replicas, and the watcher hangs on the one that the calls do not go to.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import grpc.aio
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from session_world import Watcher, World, append_to, finished, message, name, pb, started

from chassis.status import from_rpc_error
from chassis.upgrading import upgrade_database
from mobot.session.v1 import session_pb2
from session_service.__main__ import MIGRATIONS

IDS = st.sampled_from(["a", "b", "main"])
EPOCHS = st.integers(0, 3)
NUMBERS = st.integers(0, 5)


@cache
def empty_store() -> tempfile.TemporaryDirectory[str]:
    """A directory with a store to be copied."""
    directory = tempfile.TemporaryDirectory(prefix="mobot-machine-")
    upgrade_database(f"sqlite:///{directory.name}/store.sqlite3", MIGRATIONS)
    return directory


@pytest.fixture(autouse=True, scope="module")
def _no_store_is_left() -> Iterator[None]:
    yield
    empty_store().cleanup()
    empty_store.cache_clear()


@dataclass
class Expected:
    """What the model knows of a session. `of` says which transcript each line of the log belongs to; `starts` and
    `uids` are those of the transcripts."""

    persistent: bool = False
    labelled: bool = False
    state: str = "active"
    mark: int = 0
    log: list[str] = field(default_factory=list)
    of: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=lambda: [0])
    uids: list[str] = field(default_factory=list)
    present: int = 0
    active: set[str] = field(default_factory=set)

    @property
    def messages(self) -> int:
        return sum(line.startswith("m") for line, of in zip(self.log, self.of, strict=True) if of == self.present)


class SessionMachine(RuleBasedStateMachine):
    def __init__(self, new_database=None) -> None:
        """`new_database` gives the URL of an empty store that takes two replicas; a file that takes one by default."""
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.directory = Path(tempfile.mkdtemp(prefix="mobot-machine-"))
        if new_database is None:
            shutil.copy(Path(empty_store().name) / "store.sqlite3", self.directory)
            url, replicas = f"sqlite:///{self.directory / 'store.sqlite3'}", 1
        else:
            url, replicas = new_database(), 2
        self.worlds = [World(url, data_dir=self.directory, poll_interval_s=0.02) for _ in range(replicas)]
        for world in self.worlds:
            self.run(world.start())
        self.take_stubs()
        self.number = 0
        self.expected: dict[str, Expected] = {}
        self.seen: list[tuple[str, int, str]] = []
        self.order: list[tuple[str, int, str]] = []
        self.tokens: list[tuple[str, int]] = []
        self.own_tokens: dict[str, list[tuple[str, int]]] = {}
        self.watcher = self.run(self.attach(""))

    def run(self, work):
        return self.loop.run_until_complete(asyncio.wait_for(work, 120))

    def take_stubs(self) -> None:
        self.stubs = [world.stub() for world in self.worlds]
        self.stub = self.stubs[0]

    async def attach(self, token: str) -> Watcher:
        return await self.follow(pb.WatchEventsRequest(resume_token=token))

    async def follow(self, request: pb.WatchEventsRequest) -> Watcher:
        return await Watcher(self.stubs[-1].WatchEvents(request)).caught_up()

    def refused(self, call) -> str:
        """The reason of the refusal, "" when the call was answered."""

        async def attempt() -> str:
            try:
                await call()
            except grpc.aio.AioRpcError as error:
                return from_rpc_error(error).reason
            return ""

        return self.run(attempt())

    def note(self, session: str, event: str) -> None:
        expected = self.expected[session]
        expected.log.append(event)
        expected.of.append(expected.present)
        self.order.append((session, len(expected.log), event))

    # What may happen.

    @rule(session=IDS, persistent=st.booleans(), policy=st.sampled_from([1, 2, 3]))
    def create(self, session, persistent, policy):
        request = pb.CreateSessionRequest(
            parent="bots/main",
            session_id=session,
            session=session_pb2.Session(persistent=persistent, label=f"Label {session}"),
            conflict_policy=policy,
        )
        reason = self.refused(lambda: self.stub.CreateSession(request))
        known = self.expected.get(session)
        if known is None:
            assert reason == ""
            self.expected[session] = Expected(persistent=persistent, labelled=True)
            self.note(session, "session_created")
        elif known.state == "deleted":
            assert reason == "SESSION_DELETED"
        elif policy == 1:
            assert reason == "SESSION_ALREADY_EXISTS"
        elif policy == 3 and known.persistent:
            assert reason == "SESSION_PERSISTENT"
        else:
            assert reason == ""
            if policy == 3:
                if known.state == "archived":
                    known.state = "active"
                    self.note(session, "session_unarchived")
                self.reset_model(session)
                if persistent or not known.labelled:
                    known.persistent, known.labelled = persistent, True
                    self.note(session, "session_updated")

    def reset_model(self, session: str) -> None:
        expected = self.expected[session]
        expected.starts.append(len(expected.log))
        expected.present = len(expected.starts) - 1
        self.note(session, "session_reset")

    @rule(session=IDS, first=NUMBERS, count=st.integers(1, 3), epoch=EPOCHS, ensure=st.booleans())
    def append(self, session, first, count, epoch, ensure):
        ids = [f"m{number}" for number in range(first, first + count)]
        events = [message(event_id) for event_id in ids]
        reason = self.refused(lambda: append_to(self.stub, name(session), *events, epoch=epoch, ensure=ensure))
        self.appended(session, ids, epoch, ensure, reason)

    @rule(session=IDS, number=NUMBERS, epoch=EPOCHS, end=st.booleans())
    def run_event(self, session, number, epoch, end):
        run = f"r{number}"
        event = finished(run) if end else started(run)
        ends_active = end and session in self.expected and run in self.expected[session].active
        reason = self.refused(lambda: append_to(self.stub, name(session), event, epoch=epoch))
        fresh = session in self.expected and event.id not in self.expected[session].log
        self.appended(session, [event.id], epoch, False, reason, in_any_state=ends_active)
        if reason == "" and fresh:
            (self.expected[session].active.discard if end else self.expected[session].active.add)(run)

    def appended(self, session, ids, epoch, ensure, reason, *, in_any_state=False):
        known = self.expected.get(session)
        if known is None:
            if not ensure:
                assert reason == "SESSION_NOT_FOUND"
                return
            known = self.expected[session] = Expected()
            self.note(session, "session_created")
        fresh = [event_id for event_id in ids if event_id not in known.log]
        if fresh and known.state != "active" and not in_any_state:
            assert reason == f"SESSION_{known.state.upper()}"
        elif 0 < epoch < known.mark:
            assert reason == "FENCED"
        else:
            assert reason == ""
            known.mark = max(known.mark, epoch)
            for event_id in fresh:
                self.note(session, event_id)

    @rule(session=IDS)
    def reset(self, session):
        reason = self.refused(lambda: self.stub.ResetSession(pb.ResetSessionRequest(name=name(session))))
        known = self.expected.get(session)
        if known is None:
            assert reason == "SESSION_NOT_FOUND"
        elif known.state == "deleted":
            assert reason == "SESSION_DELETED"
        elif known.persistent:
            assert reason == "SESSION_PERSISTENT"
        elif known.state == "archived":
            assert reason == "SESSION_ARCHIVED"
        else:
            assert reason == ""
            self.reset_model(session)

    @rule(session=IDS, picked=NUMBERS)
    def go_back(self, session, picked):
        known = self.expected.get(session)
        which = 0 if known is None else picked % len(known.uids)
        uid = "none" if known is None else known.uids[which]
        request = pb.ResetSessionRequest(name=name(session), restore_uid=uid)
        reason = self.refused(lambda: self.stub.ResetSession(request))
        if known is None:
            assert reason == "SESSION_NOT_FOUND"
        elif which == known.present:
            assert reason == "TRANSCRIPT_NOT_FOUND"
        elif known.state == "deleted":
            assert reason == "SESSION_DELETED"
        elif known.persistent:
            assert reason == "SESSION_PERSISTENT"
        elif known.state == "archived":
            assert reason == "SESSION_ARCHIVED"
        else:
            assert reason == ""
            known.present = which
            self.note(session, "session_reset")

    @rule(each=st.integers(1, 4))
    def write_from_several_sides_at_once(self, each):
        """Sequences are dealt out without a gap, and the watcher sees what the logs say, in one order of all."""
        self.keep_up()
        sessions = [session for session, known in self.expected.items() if known.state == "active"]
        writes = []
        for session in sessions * each:
            self.number += 1
            writes.append((session, f"mc{self.number}", self.stubs[self.number % len(self.stubs)]))

        async def write_all():
            return await asyncio.gather(
                *(append_to(stub, name(session), message(event_id)) for session, event_id, stub in writes)
            )

        answers = self.run(write_all())
        placed = {
            (session, answer.sequences[0]): event_id
            for (session, event_id, _), answer in zip(writes, answers, strict=True)
        }
        before = {session: len(self.expected[session].log) for session in sessions}
        already = len(self.watcher.events)
        self.run(self.watcher.has(already + len(writes)))
        seen = self.lines(self.watcher)[already:]
        assert sorted(seen) == sorted((*place, event_id) for place, event_id in placed.items())
        for session, sequence, event_id in seen:
            known = self.expected[session]
            known.log.append(event_id)
            known.of.append(known.present)
            assert sequence == len(known.log)
            self.order.append((session, sequence, event_id))
        assert all(len(self.expected[session].log) == before[session] + each for session in sessions)

    @rule(session=IDS, persistent=st.booleans())
    def protect(self, session, persistent):
        request = pb.UpdateSessionRequest(session=session_pb2.Session(name=name(session), persistent=persistent))
        request.update_mask.paths.append("persistent")
        reason = self.refused(lambda: self.stub.UpdateSession(request))
        known = self.expected.get(session)
        if known is None:
            assert reason == "SESSION_NOT_FOUND"
        elif known.state == "deleted":
            assert reason == "SESSION_DELETED"
        elif persistent and not known.labelled:
            assert reason == "LABEL_REQUIRED"
        elif known.persistent != persistent:
            known.persistent = persistent
            self.note(session, "session_updated")

    @rule(session=IDS, verb=st.sampled_from(["Archive", "Unarchive", "Delete", "Undelete"]))
    def put_away(self, session, verb):
        request = getattr(pb, f"{verb}SessionRequest")(name=name(session))
        reason = self.refused(lambda: getattr(self.stub, f"{verb}Session")(request))
        known = self.expected.get(session)
        if known is None:
            assert reason == "SESSION_NOT_FOUND"
        elif verb == "Delete" and known.persistent and known.state != "deleted" and session != "main":
            assert reason == "CONFIRMATION_REQUIRED"
        elif verb in ("Archive", "Delete") and session == "main":
            assert reason == "SESSION_IS_MAIN"
        elif verb in ("Archive", "Unarchive") and known.state == "deleted":
            assert reason == "SESSION_DELETED"
        else:
            assert reason == ""
            self.put_away_model(session, verb)

    def put_away_model(self, session, verb):
        known = self.expected[session]
        before = known.state
        if verb == "Archive":
            known.state = "archived"
        elif verb == "Unarchive":
            known.state = "active"
        elif verb == "Delete":
            known.state = "deleted"
            self.was = getattr(self, "was", {}) | ({} if before == "deleted" else {session: before})
        elif before == "deleted":
            known.state = self.was[session]
        if known.state == before:
            return
        if verb == "Delete" and before == "active":
            self.note(session, "session_archived")
        self.note(session, f"session_{verb.lower()}d")

    @rule(picked=st.integers(0, 1000))
    def watch_again_from_an_earlier_token(self, picked):
        self.keep_up()
        if self.tokens:
            token, at = self.tokens[picked % len(self.tokens)]
            again = self.run(self.attach(token))
            assert self.lines(again) == self.order[at:]
            again.stop()

    @rule(session=IDS, picked=st.integers(0, 1000), resume=st.booleans())
    def watch_one_session_from_any_of_its_sequences(self, session, picked, resume):
        """Or from a token of such a watch of before, when there is one."""
        expected = self.expected.get(session)
        if expected is None:
            return
        self.keep_up()
        tokens = self.own_tokens.setdefault(session, [])
        request = pb.WatchEventsRequest(sessions=[name(session)])
        if resume and tokens:
            request.resume_token, at = tokens[picked % len(tokens)]
        else:
            request.after_sequence = at = picked % (len(expected.log) + 1)
        watcher = self.run(self.follow(request))
        assert [line for _, _, line in self.lines(watcher)] == expected.log[at:]
        assert [event.sequence for event in watcher.events] == list(range(at + 1, len(expected.log) + 1))
        watcher.stop()
        tokens.append((watcher.token, len(expected.log)))

    @rule()
    def restart(self):
        self.keep_up()
        token, self.seen = self.watcher.token, self.seen + self.lines(self.watcher)
        self.watcher.stop()
        for world in self.worlds:
            self.run(world.restart())
        self.take_stubs()
        self.watcher = self.run(self.attach(token))

    # What always holds.

    @invariant()
    def the_watcher_saw_each_event_once_and_in_order(self):
        self.keep_up()
        assert self.seen + self.lines(self.watcher) == self.order
        self.tokens.append((self.watcher.token, len(self.order)))

    @invariant()
    def logs_and_rows_are_as_expected(self):
        for session, expected in self.expected.items():
            page = self.run(self.history(session))
            assert [event.sequence for event in page.events] == list(range(1, len(expected.log) + 1))
            assert [self.line(event) for event in page.events] == expected.log
            row = page.session
            if len(expected.uids) < len(expected.starts):
                expected.uids.append(row.uid)
            assert row.uid == expected.uids[expected.present]
            assert (row.last_sequence, row.start_sequence) == (len(expected.log), expected.starts[expected.present])
            assert (row.persistent, row.epoch) == (expected.persistent, expected.mark)
            assert session_pb2.SessionState.Name(row.state) == f"SESSION_STATE_{expected.state.upper()}"
            assert set(row.active_runs) == expected.active
            assert row.message_count == expected.messages

    @invariant()
    def lists_hold_and_count_what_is_in_each_state(self):
        for number, state in enumerate(("active", "archived", "deleted"), start=1):
            request = pb.ListSessionsRequest(count_total=True, filter=pb.SessionFilter(states=[number]))
            page = self.run(self.listed(request))
            wanted = {name(session) for session, known in self.expected.items() if known.state == state}
            assert ({session.name for session in page.sessions}, page.total_count) == (wanted, len(wanted))

    async def listed(self, request: pb.ListSessionsRequest) -> pb.ListSessionsResponse:
        return await self.stub.ListSessions(request)

    async def history(self, session: str) -> pb.ListEventsResponse:
        request = pb.ListEventsRequest(parent=name(session), filter=pb.EventFilter(session_uid="*"))
        return await self.stub.ListEvents(request)

    def keep_up(self) -> None:
        missing = len(self.order) - len(self.seen)
        self.run(self.watcher.has(missing))

    def lines(self, watcher: Watcher) -> list[tuple[str, int, str]]:
        return [(event.session.rpartition("/")[2], event.sequence, self.line(event)) for event in watcher.events]

    def line(self, event) -> str:
        return event.WhichOneof("payload") if event.id.startswith("session/") else event.id

    def teardown(self) -> None:
        self.watcher.stop()
        for world in self.worlds:
            self.run(world.stop())
        self.loop.close()
        shutil.rmtree(self.directory)


EFFORT = settings(stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.stateful
def test_sessions_in_one_process_on_sqlite():
    run_state_machine_as_test(SessionMachine, settings=settings(EFFORT, max_examples=30))


@pytest.mark.stateful
def test_sessions_of_two_replicas_on_postgresql(postgres_server):
    def new_database() -> str:
        return postgres_server.create_database(MIGRATIONS)

    run_state_machine_as_test(lambda: SessionMachine(new_database), settings=settings(EFFORT, max_examples=8))
