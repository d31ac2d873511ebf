"""Arguments that make no sense are refused with a sentence, before anything is started or measured."""

import pytest

from benchmarks.__main__ import main


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["core", "--messages", "5"], "--messages is for the suite mail; the suite core has no use for it"),
        (["sessions", "--messages", "5"], "--messages is for the suite mail; the suite sessions has no use for it"),
        (["memory", "--messages", "5"], "--messages is for the suite mail; the suite memory has no use for it"),
        (["core", "--locomo", __file__], "--locomo is for the suite memory; the suite core has no use for it"),
        (["memory", "--locomo", "no-such.json"], "no such file: no-such.json"),
        (["mail", "--messages", "0"], "must be a whole number from 1 (was '0')"),
        (["mail", "--messages", "many"], "must be a whole number from 1 (was 'many')"),
        (["mail", "--rounds", "-1"], "must be a whole number from 1 (was '-1')"),
        (["mail", "--seconds", "0"], "must be a number of seconds over 0 (was '0')"),
        (["mail", "--seconds", "soon"], "must be a number of seconds over 0 (was 'soon')"),
        (["mail", "--only", "wake,nap"], "no such row: nap; there are "),
        (["all"], "invalid choice: 'all'"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert why in capsys.readouterr().err
