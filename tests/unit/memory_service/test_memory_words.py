"""Texts as words."""

from hypothesis import given
from hypothesis import strategies as st

from memory_service.domain.words import MAX_WORD, fold, query_words, words


def test_words_are_runs_of_letters_and_digits_without_case_and_accents():
    assert words("Zoë's Café, No. 12—Straße_x") == ["zoe", "s", "cafe", "no", "12", "strasse", "x"]


def test_scripts_without_spaces_are_cut_into_characters_and_pairs():
    assert words("喝绿茶") == ["喝", "绿", "茶", "喝绿", "绿茶"]
    assert query_words("绿茶") == ["绿茶"]
    assert query_words("茶") == ["茶"]
    assert words("iPhone手机") == ["iphone", "手", "机", "手机"]


def test_marks_belong_to_their_letters():
    assert words("मुझे चाय") == ["मुझे", "चाय"]


def test_a_query_drops_words_that_say_nothing_unless_it_has_no_others():
    assert query_words("What is the tea of tea?") == ["tea"]
    assert query_words("to be or not to be") == ["to", "be", "or", "not"]
    assert query_words("... !") == []


def test_long_runs_are_cut_alike_in_texts_and_queries():
    assert words("x" * 1_000) == query_words("x" * 1_000) == ["x" * MAX_WORD]


@given(st.text())
def test_every_text_is_found_by_its_own_words(text: str):
    assert set(query_words(text)) <= set(words(text))


@given(st.text())
def test_words_hold_nothing_that_an_index_could_take_for_syntax(text: str):
    for word in words(text):
        assert not set(word) & set(" \"'\\()*:^&|!<>-+{}[]\0\n")
        assert not any("A" <= character <= "Z" for character in word)
        assert 1 <= len(word) <= MAX_WORD


@given(st.text())
def test_case_makes_no_difference_to_latin_letters(text: str):
    plain = "".join(character for character in text if character.isascii())
    assert words(plain.upper()) == words(plain.lower())


@given(st.text(alphabet="abcäöüéñ茶绿 -_"))
def test_folding_again_changes_nothing(text: str):
    assert fold(fold(text)) == fold(text)
