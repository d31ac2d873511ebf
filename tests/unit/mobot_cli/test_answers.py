"""An answer as it is written on the screen: each piece once."""

import io

import pytest

from mobot.session.v1 import event_pb2, part_pb2, session_service_pb2
from mobot_cli.answers import Answer

RUN = "r1"


def delta(text: str, offset: int = 0, *, replace: bool = False):
    piece = event_pb2.Delta(run=RUN, text=text, offset=offset, replace=replace)
    return session_service_pb2.WatchEventsResponse(deltas=[piece])


def committed(text: str):
    said = event_pb2.MessageAppended(role=event_pb2.ROLE_ASSISTANT, parts=[part_pb2.Part(text=text)])
    return session_service_pb2.WatchEventsResponse(events=[event_pb2.Event(run=RUN, message=said)])


@pytest.mark.parametrize(
    ("frames", "screen"),
    [
        ([committed("Hello you")], "Hello you\n"),
        ([delta("Hello "), delta("you", 6), committed("Hello you")], "Hello you\n"),
        ([delta("Hello "), delta("you ", 6), committed("Hello you")], "Hello you\n"),
        ([delta("one\n"), delta("\ntwo\n", 4), committed("one\n\ntwo")], "one\n\ntwo\n"),
        ([delta("Hel"), delta("Good", replace=True), committed("Good day")], "Hel\nGood day\n"),
        ([delta(" ")], ""),
        ([], ""),
    ],
)
def test_every_piece_stands_there_once(frames, screen):
    show = io.StringIO()
    answer = Answer(RUN, show)
    for frame in frames:
        assert not answer.take(frame)
    answer.end()
    assert show.getvalue() == screen
