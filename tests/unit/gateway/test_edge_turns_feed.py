"""The log of a session as client events, without any I/O."""

import json

from gateway.outbox import StreamDelta
from gateway.run_end import last_message
from gateway.turns import Audience, TurnFeed
from mobot.session.v1 import event_pb2, part_pb2, session_pb2, session_service_pb2

NAME = "bots/main/sessions/a"


class Listening:
    def __init__(self, heard=True):
        self.out = []
        self.heard = heard
        self.feed = TurnFeed(self.out.append, lambda: 7, lambda: self.heard)
        self.sequence = 0

    def event(self, run="r", **payload):
        self.sequence += 1
        return event_pb2.Event(sequence=self.sequence, id=f"e{self.sequence}", session=NAME, run=run, **payload)

    def tell(self, *events, deltas=(), sessions=()):
        frame = session_service_pb2.WatchEventsResponse(events=events, deltas=deltas, sessions=sessions)
        self.feed.feed(frame)

    def chats(self):
        return [
            json.loads(o.what.payload)
            for o in self.out
            if not isinstance(o.what, StreamDelta) and o.what.name == "chat"
        ]


def said(text, *, role=event_pb2.ROLE_ASSISTANT, partial=False):
    return event_pb2.MessageAppended(role=role, parts=[part_pb2.Part(text=text)], partial=partial)


def finished(outcome=session_pb2.RUN_OUTCOME_SUCCEEDED, **more):
    return event_pb2.RunFinished(outcome=outcome, **more)


def test_a_run_ends_once_even_when_its_end_is_told_twice():
    here = Listening()
    here.tell(here.event(run_started=event_pb2.RunStarted(attempt=1)), here.event(message=said("x")))
    end = here.event(run_finished=finished())
    here.tell(end)
    here.tell(end)
    here.tell(deltas=[event_pb2.Delta(session=NAME, run="r", text="late")])
    here.feed.flush()

    assert [chat["state"] for chat in here.chats()] == ["status", "final"]
    assert here.feed.text_of_run("r") == ""


def test_the_end_carries_the_last_message_without_our_marks():
    here = Listening()
    here.tell(
        here.event(message=said("first")), here.event(message=said("second")), here.event(run_finished=finished())
    )

    final = here.chats()[-1]

    assert final["message"] == {"role": "assistant", "content": [{"type": "text", "text": "second"}], "timestamp": 0}


def test_an_end_without_any_message_has_none():
    here = Listening()
    here.tell(here.event(run_started=event_pb2.RunStarted(attempt=1)), here.event(run_finished=finished()))

    assert "message" not in here.chats()[-1]


def test_only_runs_that_began_unheard_lack_their_message():
    here = Listening()
    unheard = here.event(run="old", run_finished=finished())
    here.tell(here.event(run="new", run_started=event_pb2.RunStarted(attempt=1)))

    assert here.feed.lacks_message_of(unheard)
    assert not here.feed.lacks_message_of(here.event(run="new", run_finished=finished()))
    assert not here.feed.lacks_message_of(here.event(message=said("x")))
    here.feed.learn_message(here.event(run="old", message=said("from the log")))
    assert not here.feed.lacks_message_of(unheard)


def test_a_queued_run_that_is_cancelled_ends_as_aborted():
    here = Listening()
    here.tell(
        here.event(message=said("please", role=event_pb2.ROLE_USER)),
        here.event(run_finished=finished(session_pb2.RUN_OUTCOME_CANCELLED)),
    )

    assert [(c["state"], c["stopReason"]) for c in here.chats()] == [("aborted", "rpc")]


def test_numbers_of_a_run_never_fall():
    here = Listening()
    here.tell(here.event(run_started=event_pb2.RunStarted(attempt=1)))
    for offset, text in enumerate("abc"):
        here.tell(deltas=[event_pb2.Delta(session=NAME, run="r", offset=offset, text=text)])
        here.feed.flush()
    here.tell(here.event(message=said("abc")), here.event(run_finished=finished()))
    numbers = [
        o.what.chat_head["seq"] if isinstance(o.what, StreamDelta) else json.loads(o.what.payload).get("seq")
        for o in here.out
    ]
    numbers = [number for number in numbers if number is not None]

    assert numbers == sorted(numbers)


def test_thinking_and_progress_are_no_part_of_the_answer():
    here = Listening()
    thinking = event_pb2.Delta(session=NAME, run="r", text="hmm", kind=event_pb2.DELTA_KIND_THINKING)
    progress = event_pb2.Delta(session=NAME, run="r", text="searching", kind=event_pb2.DELTA_KIND_PROGRESS)
    here.tell(deltas=[thinking, progress])

    streams = [json.loads(o.what.payload)["stream"] for o in here.out]
    assert streams == ["thinking", "run_status"]
    assert here.feed.text_of_run("r") == ""


def test_while_nobody_listens_nothing_is_made_and_nothing_is_forgotten():
    here = Listening(heard=False)
    here.tell(here.event(run_started=event_pb2.RunStarted(attempt=1)), here.event(message=said("unheard")))
    here.tell(deltas=[event_pb2.Delta(session=NAME, run="r", text="next", step=1)])
    here.feed.flush()
    assert here.out == []

    here.heard = True
    here.tell(here.event(run_finished=finished()))

    assert here.chats()[-1]["message"]["content"][0]["text"] == "unheard"


def test_the_warning_before_an_idle_session_is_put_away_says_when():
    here = Listening()
    warned = event_pb2.ExpiryWarned()
    warned.expire_time.FromMilliseconds(5_000)
    here.tell(here.event(run="", expiry_warned=warned))

    [told] = [json.loads(o.what.payload) for o in here.out]
    assert (told["reason"], told["expiresAt"]) == ("expiry", 5_000)


def test_whom_an_event_is_for():
    here = Listening()
    here.tell(
        here.event(run="", session_created=event_pb2.SessionCreated()),
        here.event(message=said("x", role=event_pb2.ROLE_USER)),
        here.event(tool_called=event_pb2.ToolCalled(call_id="1", tool="t", arguments_json="not json")),
        here.event(run_started=event_pb2.RunStarted(attempt=1)),
        sessions=[session_pb2.Session(name=NAME, uid="u")],
    )
    by_name = {}
    for outgoing in here.out:
        by_name.setdefault(outgoing.what.name, set()).add(outgoing.audience)

    assert by_name == {
        "sessions.changed": {Audience.SESSIONS},
        "session.message": {Audience.MESSAGES},
        "agent": {Audience.TOOLS, Audience.ALL},
        "chat": {Audience.ALL},
    }


def test_the_last_message_is_a_whole_one_if_there_is_one():
    here = Listening()
    partial, whole = here.event(message=said("half", partial=True)), here.event(message=said("whole"))
    later_partial = here.event(message=said("cut", partial=True))

    assert last_message([later_partial, whole, partial]) == whole
    assert last_message([later_partial, partial]) == later_partial
    assert last_message([here.event(message=said("x", role=event_pb2.ROLE_USER))]) is None
