"""Labels that a person cannot read, type or tell apart."""

import pytest
from session_world import create, pb, refusal
from test_session_protection import relabel


@pytest.mark.parametrize(
    ("label", "code_point"),
    [
        ("a\x07b", "U+0007"),  # a control character
        ("a\nb", "U+000A"),
        ("a\u200bb", "U+200B"),  # cannot be seen
        ("a\u202eb", "U+202E"),  # turns the text around
        ("a\u2066b", "U+2066"),
        ("a\ue000b", "U+E000"),  # private
        ("a\u0378b", "U+0378"),  # unassigned
        ("\u0412udget", "U+0412"),  # a Cyrillic letter in a Latin word
        ("p\u0430ypal", "U+0430"),
        ("\u041f\u043ba\u043d", "U+0061"),  # and the other way round
    ],
)
async def test_a_label_that_deceives_is_refused_with_the_code_point(stub, label, code_point):
    error = await refusal(create(stub, "a", label=label))
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "LABEL_CONFUSABLE")
    assert (error.metadata["code_point"], error.violations[0].field) == (code_point, "session.label")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Copy", "\u0421\u043e\u0440\u0443"),  # all Cyrillic
        ("Modern", "Modem"),
        ("Plan 1", "Plan l"),
        ("Room 0", "Room O"),
        ("Plan I", "plan l"),
    ],
)
async def test_a_label_that_looks_like_another_is_refused(stub, first, second):
    taken = await create(stub, "a", label=first)
    error = await refusal(create(stub, "b", label=second))
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "LABEL_CONFUSABLE")
    assert error.metadata["session"] == taken.name
    other = await create(stub, "c")
    assert (await refusal(relabel(stub, other.name, second))).reason == "LABEL_CONFUSABLE"
    # Its own old label is not in its way, nor is that of another bot's session.
    assert (await relabel(stub, taken.name, second)).session.label == second
    await create(stub, "a", bot="helper", label=first)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Budget", "BUDGET"),
        ("Budget", "  budget "),
        ("Caf\u00e9", "Cafe\u0301"),
        ("five", "\ufb01ve"),
        ("A b", "A\u3000b"),
    ],
)
async def test_the_same_label_in_another_form_is_in_use(stub, first, second):
    taken = await create(stub, "a", label=first)
    error = await refusal(create(stub, "b", label=second))
    assert (error.code, error.reason) == ("ALREADY_EXISTS", "LABEL_IN_USE")
    assert error.metadata["session"] == taken.name


@pytest.mark.parametrize(
    "label", ["Планы Q3", "日本語 plan", "β-test", "naïve", "☺️ mood", "Δt", "हिन्दी", "ไทย", "العربية", "שלום"]
)
async def test_honest_labels_of_the_world_are_kept_and_found(stub, label):
    session = await create(stub, "a", label=label)
    assert session.label == label
    found = await stub.ResolveSession(pb.ResolveSessionRequest(label=label))
    assert found.session.name == session.name
