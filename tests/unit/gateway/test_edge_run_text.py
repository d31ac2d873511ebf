"""However pieces come, what a client puts together is what the bot said."""

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.run_text import RunText
from mobot.session.v1 import event_pb2


def piece(offset, text, **more):
    return event_pb2.Delta(run="r", offset=offset, text=text, **more)


class Listener:
    """A client that uses `deltaText` alone, as those do that do not look at the whole message."""

    def __init__(self):
        self.text = ""

    def hear(self, run):
        if run.has_unsent:
            delta = run.take("r", {}, 0)
            self.text = delta.new_text if delta.replace else self.text + delta.new_text
            assert delta.text == self.text


def told(*pieces, flush_each=True):
    run, listener = RunText(), Listener()
    for item in pieces:
        run.add(item)
        if flush_each:
            listener.hear(run)
    listener.hear(run)
    return listener.text


def test_pieces_are_put_in_a_row():
    assert told(piece(0, "Gre"), piece(3, "at"), piece(5, " you")) == "Great you"
    assert told(piece(0, "Gre"), piece(3, "at"), flush_each=False) == "Great"


def test_what_came_already_is_not_said_twice():
    assert told(piece(0, "Great"), piece(3, "at you")) == "Great you"
    assert told(piece(0, "Great"), piece(0, "Great")) == "Great"


def test_a_hole_is_waited_out_until_the_snapshot():
    assert told(piece(0, "Gre"), piece(9, "you")) == "Gre"
    assert told(piece(0, "Gre"), piece(9, "you"), piece(0, "Great, you", replace=True)) == "Great, you"


def test_a_snapshot_that_continues_what_was_said_replaces_nothing():
    run = RunText()
    run.add(piece(0, "Gre"))
    run.take("r", {}, 0)
    run.add(piece(0, "Great", replace=True))

    delta = run.take("r", {}, 0)

    assert (delta.new_text, delta.replace) == ("at", False)


def test_a_snapshot_that_contradicts_it_replaces_it():
    assert told(piece(0, "first try"), piece(0, "second", replace=True), piece(6, " try")) == "second try"


def test_offsets_count_code_points():
    assert told(piece(0, "é👍"), piece(2, "ok")) == "é👍ok"


def test_a_committed_message_completes_what_was_streamed():
    run, listener = RunText(), Listener()
    run.add(piece(0, "Great"))
    listener.hear(run)
    run.complete("Great you")
    listener.hear(run)

    assert listener.text == "Great you"


def test_a_committed_message_corrects_what_was_streamed():
    run, listener = RunText(), Listener()
    run.add(piece(0, "Gross"))
    listener.hear(run)
    run.complete("Great")
    listener.hear(run)

    assert listener.text == "Great"


def test_a_delta_overtaken_by_its_message_says_nothing():
    run = RunText()
    run.complete("Great you")
    run.take("r", {}, 0)
    run.begin_again()

    assert run.add(piece(0, "Great")) is False
    assert run.add(piece(5, " you")) is False
    assert run.add(piece(0, "Another")) is True


def test_an_attempt_that_begins_again_replaces_the_one_before():
    run, listener = RunText(), Listener()
    run.add(piece(0, "first"))
    listener.hear(run)
    run.begin_again()
    run.add(piece(0, "second"))
    listener.hear(run)

    assert listener.text == "second"


@settings(max_examples=200, deadline=None)
@given(
    st.text(min_size=1, max_size=60),
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20), st.booleans()), max_size=20),
    st.data(),
)
def test_in_whatever_pieces_and_repetitions_it_comes_the_text_is_the_text(text, cuts, data):
    run, listener = RunText(), Listener()
    for start, length, flush in cuts:
        run.add(piece(start, text[start : start + length])) if start < len(text) else None
        if flush:
            listener.hear(run)
        assert text.startswith(run.text)
    run.complete(text)
    listener.hear(run)

    assert listener.text == text
