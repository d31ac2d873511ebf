"""Fusing scores: the parts add up, ties are settled, and names in a query are handled in any language."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from memory_service.domain.ranking import (
    Candidate,
    Mode,
    Signal,
    Weights,
    contenders,
    in_order,
    named_authors,
    pool,
    rank,
    scales_of,
    without_names,
)

DAY_US = 86_400 * 1_000_000


def candidate(
    key: int, bm25: float = 0.0, cosine: float | None = None, *, id: str = "", author: str = "", **times: int
) -> Candidate:
    return Candidate(
        key, id or f"m{key}", author, 0.5, times.get("update", 0), times.get("happen", 0), Signal(bm25, cosine)
    )


def order(candidates: list[Candidate], weights: Weights | None = None, **options) -> list[int]:
    options.setdefault("mode", Mode.HYBRID)
    return [each.candidate.key for each in rank(candidates, weights or Weights(), **options)]


def test_scores_are_scaled_and_ties_settled_by_update_and_then_id():
    candidates = [
        candidate(1, 2.0, id="b", update=10),
        candidate(2, 2.0, id="a", update=10),
        candidate(3, 2.0, id="c", update=11),
        candidate(4, 1.0, id="d", update=99),
    ]
    ranked = rank(candidates, Weights(), mode=Mode.TEXT)
    assert [(each.candidate.id, each.score) for each in ranked] == [("c", 1.0), ("a", 1.0), ("b", 1.0), ("d", 0.5)]
    assert rank([], Weights(), mode=Mode.HYBRID) == []


def test_words_and_meaning_are_fused():
    by_word, by_meaning, by_both = candidate(1, 4.0, 0.1), candidate(2, 0.0, 0.8), candidate(3, 3.0, 0.7)
    assert order([by_word, by_meaning, by_both]) == [3, 2, 1]
    assert order([by_word, by_meaning, by_both], Weights(text=1, vector=0)) == [1, 3, 2]
    assert order([by_word, by_meaning, by_both], Weights(text=0, vector=1)) == [2, 3, 1]
    assert order([by_word, by_meaning, by_both], mode=Mode.TEXT) == [1, 3, 2]
    assert order([by_word, by_meaning, by_both], mode=Mode.VECTOR) == [2, 3, 1]


def test_a_memory_without_a_vector_still_competes_by_its_words():
    assert order([candidate(1, 5.0, None), candidate(2, 0.0, 0.2)]) == [2, 1]
    assert order([candidate(1, 5.0, None), candidate(2, 0.0, 0.2)], Weights(text=2)) == [1, 2]


def test_recency_and_importance_count_when_they_are_asked_for():
    now = 100 * DAY_US
    old, new = candidate(1, 2.0, happen=0), candidate(2, 1.9, happen=now)
    assert order([old, new], mode=Mode.TEXT, now=now) == [1, 2]
    assert order([old, new], Weights(recency=1), mode=Mode.TEXT, now=now) == [2, 1]
    parts = rank([new], Weights(text=1, recency=1, half_life_s=86_400), mode=Mode.TEXT, now=now + DAY_US)[0].parts()
    assert parts.recency == pytest.approx(0.25)


def test_an_author_whom_the_query_names_is_favoured():
    mine, other = candidate(1, 1.0, author="Ana"), candidate(2, 1.1, author="Bo")
    assert order([mine, other], named=("Ana",)) == [1, 2]
    assert order([mine, other]) == [2, 1]
    assert rank([mine], Weights(), mode=Mode.HYBRID, named=("Ana",))[0].parts().matched_author == "Ana"


@example([(1e-320, None, False)], (1.0, 0.0, 0.0, 0.0, 0.0), Mode.HYBRID)
@example([(0.0, 1e-320, False)], (0.0, 1.0, 0.0, 0.0, 0.0), Mode.HYBRID)
@given(
    st.lists(st.tuples(st.floats(0, 50), st.none() | st.floats(-1, 1), st.booleans()), max_size=20),
    st.tuples(*[st.floats(0, 10)] * 5),
    st.sampled_from(Mode),
)
def test_parts_add_up_to_a_score_between_0_and_1(signals, weights, mode):
    candidates = [
        candidate(key, bm25, cosine, author="Ana" if named else "") for key, (bm25, cosine, named) in enumerate(signals)
    ]
    for each in rank(candidates, Weights(*weights), mode=mode, named=("Ana",), now=DAY_US):
        parts = each.parts()
        total = parts.text + parts.vector + parts.author + parts.recency + parts.importance
        assert each.score == pytest.approx(total, abs=1e-6)
        assert 0 <= each.score <= 1


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("What did Caroline research?", ("Caroline",)),
        ("caroline's dog", ("Caroline",)),
        ("What did Ana Maria say?", ("Ana Maria Silva",)),
        ("who is Ana Maria Silva", ("Ana Maria Silva",)),
        ("Что сказала Ольга?", ("Ольга",)),
        ("小林さんは 小林 何を", ("小林",)),
        ("ops-bot restarts", ("ops-bot",)),
        ("carolines", ()),
        ("nobody", ()),
        ("", ()),
    ],
)
def test_authors_are_named_whole_or_by_their_first_name(query, named):
    assert named_authors(query, ["Caroline", "Ana Maria Silva", "Ольга", "小林", "ops-bot", "x", "!"]) == named


def test_a_first_name_that_two_have_names_neither():
    assert named_authors("Ana?", ["Ana Silva", "Ana Costa"]) == ()
    assert named_authors("Ana Costa?", ["Ana Silva", "Ana Costa"]) == ("Ana Costa",)


def test_names_are_cut_from_what_is_embedded():
    assert without_names("What did Caroline\u2019s friend say to Caroline?", ["Caroline"]) == "What did friend say to"
    assert without_names("Caroline?", ["Caroline"]) == "Caroline?"
    assert without_names("What now?", []) == "What now?"


def test_deeper_pages_rank_more_candidates():
    assert pool(10) < pool(26) == pool(1_000)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.0, 1.0, 2.5]) | st.floats(0, 50),
            st.none() | st.sampled_from([0.5, 0.9]) | st.floats(-1, 1),
            st.booleans(),
        ),
        max_size=30,
    ),
    st.tuples(*[st.floats(0, 10)] * 4, st.sampled_from([0.0, 1.0])),
    st.sampled_from([Mode.HYBRID, Mode.TEXT, Mode.VECTOR]),
    st.integers(1, 12),
)
def test_the_first_of_the_contenders_are_the_first_of_all(signals, weights, mode, depth):
    weighed = Weights(*weights)
    every = [
        candidate(key, bm25, cosine, author="Ana" if named else "Bo", update=key % 3, happen=key * DAY_US)
        for key, (bm25, cosine, named) in enumerate(signals, 1)
    ]
    now = 40 * DAY_US
    scales = scales_of([each.signal for each in every], weighed, mode, named=("Ana",), now=now)
    kept = set(contenders({each.key: each.signal for each in every}, scales, depth))
    first = in_order([each for each in every if each.key in kept], scales)[:depth]
    assert first == rank(every, weighed, mode=mode, named=("Ana",), now=now)[:depth]
