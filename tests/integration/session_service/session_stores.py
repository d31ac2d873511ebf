"""Opening stores, and appends in few words."""

import itertools

from chassis.database import Database
from mobot.session.v1 import event_pb2, part_pb2
from session_service.__main__ import MIGRATIONS
from session_service.convert.events import encode_change
from session_service.domain.event import Append, Ensure, EventKind, Message, NewEvent, Role, RunEnd, RunStart
from session_service.domain.rules import DEFAULT_RULES
from session_service.domain.session import Draft, Fields, Provenance, RunOutcome
from session_service.store.store import Store

ENSURE = Ensure("services/router", "mail", user_created=False, parent="")


async def open_store(url: str, clock, *, commit_hook=None, rules=DEFAULT_RULES) -> Store:
    database = await Database.open(url, migrations=MIGRATIONS, migrate=True, clock=clock, commit_hook=commit_hook)
    numbers = itertools.count(1)
    name = f"{id(database):x}"
    return Store(
        database, clock=clock, encode=encode_change, new_uid=lambda: f"uid-{name}-{next(numbers)}", rules=rules
    )


def payload(event_id: str, text: str = "hello") -> bytes:
    body = event_pb2.MessageAppended(role=1, parts=[part_pb2.Part(text=text)])
    return event_pb2.Event(id=event_id, message=body).SerializeToString()


def message(event_id: str, text: str = "hello", *, run: str = "") -> NewEvent:
    return NewEvent(event_id, EventKind.MESSAGE, run, payload(event_id, text), Message(Role.USER, text))


def started(run: str) -> NewEvent:
    event_id = f"run/{run}/started/1"
    return NewEvent(event_id, EventKind.RUN_STARTED, run, payload(event_id), RunStart(1))


def finished(run: str, outcome: RunOutcome = RunOutcome.SUCCEEDED) -> NewEvent:
    event_id = f"run/{run}/finished"
    return NewEvent(event_id, EventKind.RUN_FINISHED, run, payload(event_id), RunEnd(outcome, "", None, None))


def append(session_id: str, *events: NewEvent, **how) -> Append:
    return Append("main", session_id, events, **{"ensure": ENSURE, **how})


def draft(session_id: str, **fields) -> Draft:
    return Draft("main", session_id, Fields(**fields), Provenance("operators/root"))


def name(session_id: str) -> str:
    return f"bots/main/sessions/{session_id}"
