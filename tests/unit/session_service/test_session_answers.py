"""Answers being written: pieces join to one text, and every watcher gets all of it whenever it looks."""

from hypothesis import given
from hypothesis import strategies as st

from session_service.feed.answers import MAX_PIECE_CHARS, Answer, Answers, Delta

KEY = ("bots/main/sessions/a", "r1")


def delta(text: str, offset: int, *, replace: bool = False, epoch: int = 1, step: int = 0) -> Delta:
    return Delta(KEY[0], KEY[1], offset, text, replace, 1, epoch, step)


def answer() -> Answer:
    return Answer(1, KEY[0], KEY[1], 0, 1, 1, 0)


def joined(text: str, pieces: list[Delta]) -> str:
    for piece in pieces:
        text = piece.text if piece.replace else text[: piece.offset] + piece.text
    return text


@given(st.lists(st.text(max_size=9), max_size=20), st.sets(st.integers(0, 20)))
def test_whoever_looks_now_and_then_gets_the_whole_text(pieces, looks):
    writing, got, seen = answer(), "", (0, 0)
    for number, piece in enumerate(pieces):
        assert writing.add(delta(piece, writing.end))
        if number in looks:
            got = joined(got, list(writing.deltas(*seen)))
            seen = (writing.generation, writing.end)
    got = joined(got, list(writing.deltas(*seen)))
    assert got == "".join(pieces)
    assert joined("", list(writing.deltas(-1, 0))) == "".join(pieces)


def test_pieces_overlap_but_leave_no_gap():
    writing = answer()
    assert writing.add(delta("Hello", 0))
    assert writing.add(delta("lo wo", 3))
    assert writing.add(delta("Hell", 0))
    assert not writing.add(delta("x", 99))
    assert writing.since(0) == "Hello wo"
    assert writing.since(6) == "wo"


def test_a_replacement_reaches_those_who_saw_the_old_text():
    writing = answer()
    writing.add(delta("wrong", 0))
    seen = (writing.generation, writing.end)
    writing.add(delta("right", 0, replace=True))
    (piece,) = writing.deltas(*seen)
    assert (piece.text, piece.offset, piece.replace) == ("right", 0, True)


def test_long_texts_go_in_pieces():
    writing = answer()
    writing.add(delta("x" * (MAX_PIECE_CHARS + 1), 0))
    pieces = list(writing.deltas(-1, 0))
    assert [(piece.offset, len(piece.text), piece.replace) for piece in pieces] == [
        (0, MAX_PIECE_CHARS, True),
        (MAX_PIECE_CHARS, 1, False),
    ]


def test_only_runs_at_work_are_written_to():
    answers = Answers()
    assert answers.admits(KEY) is None
    assert answers.add(delta("x", 0)) is None
    answers.admit(KEY, 1, 3)
    assert answers.admits(KEY) is True
    assert answers.add(delta("x", 0, epoch=2)) is None
    assert answers.add(delta("x", 0, epoch=3)) is not None
    assert [text.end for text in answers.end(KEY)] == [1]
    assert answers.admits(KEY) is False
    answers.admit(KEY, 1, 3)
    assert answers.admits(KEY) is False
    answers.revive(KEY)
    assert answers.admits(KEY) is None
