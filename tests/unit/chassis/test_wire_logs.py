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
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


def test_configuring_twice_prints_once(root_logging, capsys):
    configure("session", level="info")
    configure("session", level="info")
    logging.getLogger("mobot.test").info("once", extra={"n": 1})
    logging.getLogger("mobot.test").debug("never")
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["event"] == "once"
