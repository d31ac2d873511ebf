"""The postings of an index: the same scores, however they are reckoned."""

import numpy as np
import pytest

from memory_service.index.postings import Postings

_WORDS = 40


def _filled(memories: int) -> tuple[Postings, np.ndarray, np.ndarray]:
    dice = np.random.default_rng(memories)
    postings = Postings()
    lengths = np.zeros(memories, np.float32)
    for slot in range(memories):
        words = dice.integers(_WORDS, size=9).tolist()
        postings.add(slot, {word: float(words.count(word)) for word in words})
        lengths[slot] = len(words)
    return postings, np.ones(memories, np.bool_), lengths


@pytest.mark.parametrize("memories", [1, 7, 400])
def test_words_weighed_together_score_as_each_alone(memories: int) -> None:
    postings, alive, lengths = _filled(memories)
    alive[::3] = False
    alone = []
    for word in range(_WORDS + 2):
        postings.changed()
        alone.append(postings.score([word], alive, lengths))

    postings.changed()
    for _ in range(3):
        together = [postings.score([word], alive, lengths) for word in range(_WORDS + 2)]

    assert all((one == other).all() for one, other in zip(alone, together, strict=True))
    assert not any(scores[::3].any() for scores in together)


def test_what_comes_later_is_found_whether_or_not_it_was_sorted_in() -> None:
    postings, alive, lengths = _filled(50)
    for _ in range(30):
        postings.score([1, 2, 3], alive, lengths)
    alive, lengths = np.append(alive, True), np.append(lengths, np.float32(2))
    postings.add(50, {1: 1.0, 1_000: 1.0})

    before = postings.score([1_000, 1], alive, lengths)
    postings.settle()
    after = postings.score([1_000, 1], alive, lengths)

    assert before[50] > before[:50].max()
    assert (before == after).all()


def test_room_for_the_weights_is_counted_before_they_are_made() -> None:
    postings, alive, lengths = _filled(400)
    postings.settle()
    before = postings.nbytes

    for word in range(_WORDS):
        postings.score([word], alive, lengths)

    assert postings.nbytes <= before + 65_536
