"""What others wrote is shown, and does nothing to the terminal."""

from mobot.session.v1 import event_pb2, part_pb2
from mobot_cli import printing, transcript


def test_control_characters_never_reach_the_terminal():
    assert "\x1b" not in printing.clean("\x1b[2Jgone\r\n")
    assert printing.clean("a\x7f\x9b1m\u2028\u202eb\u2066") == "a  1m  b "
    assert printing.clean_block("a\n\x1b[31mb\tc") == "a\n [31mb  c"


def test_a_long_text_is_cut_with_a_mark():
    assert printing.clean("abcdef", limit=4) == "abc…"


def test_a_table_in_a_pipe_is_not_folded(capsys):
    key = f"agent:main:{'long' * 60}"
    printing.print_table(["SESSION", "LABEL"], [[key, "Label"]], empty="")
    assert f"{key}  Label" in capsys.readouterr().out


def test_no_line_of_a_table_in_a_pipe_ends_in_blanks(capsys):
    printing.print_table(["BOT", "DESCRIPTION"], [["main", ""], ["a-longer-name", "x"]], empty="")
    lines = capsys.readouterr().out.split("\n")
    assert lines == ["BOT            DESCRIPTION", "main", "a-longer-name  x", ""]


def test_a_message_is_one_block_with_its_speaker():
    event = event_pb2.Event(
        sequence=3,
        session="bots/main/sessions/main",
        message=event_pb2.MessageAppended(role=event_pb2.ROLE_ASSISTANT, parts=[part_pb2.Part(text="hi\nthere")]),
    )
    block = transcript.lines(event)
    assert block is not None
    assert block.startswith("[3] ")
    assert block.endswith(" main: hi\nthere")


def test_what_only_programs_need_is_left_out_unless_asked_for():
    event = event_pb2.Event(sequence=1, run_started=event_pb2.RunStarted(attempt=1))
    assert transcript.lines(event) is None
    assert transcript.lines(event, verbose=True) is not None


def test_a_transcript_that_was_gone_back_to_is_told_from_a_new_one():
    new, back = (
        transcript.lines(event_pb2.Event(sequence=1, session_reset=event_pb2.SessionReset(restored=restored)))
        for restored in (False, True)
    )
    assert "--- reset ---" in (new or "")
    assert "--- gone back to this transcript ---" in (back or "")


def test_joined_and_new_emoji_are_shown_as_they_are():
    said = "\N{WOMAN}\u200d\N{PERSONAL COMPUTER} \U0001fae8 3\u202f\u20ac"
    assert printing.clean(said) == said
