"""A log line is one JSON object."""

import json
import logging
import sys

import pytest

from chassis.logs import JsonFormatter, TextFormatter, configure
from chassis.telemetry import CURRENT_TRACEPARENT


def _record(**extra):
    record = logging.makeLogRecord({"name": "mobot.rpc", "levelname": "INFO", "msg": "rpc %s", "args": ("failed",)})
    record.__dict__.update(extra)
    return record


def test_a_line_has_its_event_service_and_extra_fields():
    line = json.loads(JsonFormatter("session").format(_record(method="/a/B", code="NOT_FOUND")))
    assert (line["service"], line["event"], line["level"]) == ("session", "rpc failed", "INFO")
    assert (line["method"], line["code"]) == ("/a/B", "NOT_FOUND")
    assert line["time"].endswith("+00:00")
    assert "trace_id" not in line


def test_a_line_within_a_trace_names_it():
    token = CURRENT_TRACEPARENT.set("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")
    line = json.loads(JsonFormatter("session").format(_record()))
    CURRENT_TRACEPARENT.reset(token)
    assert line["trace_id"] == "0af7651916cd43dd8448eb211c80319c"


def test_a_failure_has_its_stack():
    try:
        int("by nothing")
    except ValueError:
        record = _record(exc_info=sys.exc_info())
    assert "by nothing" in json.loads(JsonFormatter("session").format(record))["stack"]


def test_a_value_that_json_does_not_know_is_printed():
    assert json.loads(JsonFormatter("session").format(_record(where={1: object}))) is not None


def test_lines_for_people_are_short():
    assert TextFormatter("session").format(_record(code="OK")).endswith("INFO session rpc failed code=OK")


@pytest.fixture
def root_logging():
    root, alembic = logging.getLogger(), logging.getLogger("alembic")
    handlers, level, reserved = root.handlers[:], root.level, alembic.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)
    alembic.setLevel(reserved)


def test_configuring_twice_prints_once(root_logging, capsys):
    configure("session", level="info")
    configure("session", level="info")
    logging.getLogger("mobot.test").info("once", extra={"n": 1})
    logging.getLogger("mobot.test").debug("never")
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["event"] == "once"


@pytest.mark.parametrize(("level", "heard"), [("debug", True), ("info", False)])
def test_migrations_are_listed_only_to_who_asks_for_everything(root_logging, capsys, level, heard):
    configure("session", level=level)
    logging.getLogger("alembic.runtime.migration").info("Running upgrade  -> 0001")
    logging.getLogger("alembic.runtime.migration").warning("odd")
    lines = capsys.readouterr().err
    assert ("Running upgrade" in lines) is heard
    assert "odd" in lines


def test_an_error_level_holds_for_reserved_libraries_too(root_logging, capsys):
    configure("session", level="error")
    logging.getLogger("alembic").warning("odd")
    assert capsys.readouterr().err == ""
