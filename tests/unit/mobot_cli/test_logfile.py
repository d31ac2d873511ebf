import os

from mobot_cli import logfile


def test_only_lines_since_the_start_are_shown(tmp_path):
    path = tmp_path / "x.log"
    path.write_text("old\n")
    assert logfile.last_lines(path, since=4, count=5) == []
    with path.open("a") as file:
        file.write("one\n\ntwo\nthree\n")
    assert logfile.last_lines(path, since=4, count=2) == ["two", "three"]


def test_json_lines_become_readable_and_others_stay(tmp_path):
    path = tmp_path / "x.log"
    path.write_text('{"time":"t","level":"ERROR","service":"s","event":"no","port":1}\n{"broken\n{"a":1}\nplain\n')
    assert logfile.last_lines(path, since=0, count=9) == ["ERROR no port=1", '{"broken', '{"a":1}', "plain"]


def test_a_huge_log_is_read_from_near_its_end(tmp_path):
    path = tmp_path / "x.log"
    path.write_text("filler\n" * 100_000 + "last\n")
    assert logfile.last_lines(path, since=0, count=1) == ["last"]


def test_a_grown_log_is_rotated_and_the_oldest_dropped(tmp_path):
    path = tmp_path / "x.log"
    for number in range(logfile.KEPT_ROTATIONS + 2):
        path.write_text(str(number))
        os.truncate(path, logfile.ROTATE_AT_BYTES)
        logfile.rotate(path)
    kept = {old.name: old.read_bytes()[:1] for old in tmp_path.iterdir()}
    assert kept == {"x.log.1": b"4", "x.log.2": b"3", "x.log.3": b"2"}


def test_a_small_or_missing_log_is_left_alone(tmp_path):
    path = tmp_path / "x.log"
    logfile.rotate(path)
    path.write_text("small")
    logfile.rotate(path)
    assert [each.name for each in tmp_path.iterdir()] == ["x.log"]
