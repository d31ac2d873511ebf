"""Log lines as JSON on stderr: time, level, service, logger, event, trace id and the record's extra fields.

Log decisions with ids; payloads, tokens and message text never belong in a log.
"""

import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from chassis.telemetry import current_trace_id

# What every LogRecord has of itself: whatever else it carries came through `extra`.
_OWN_FIELDS: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}

# Libraries that tell at INFO what is their own business: alembic lists plug-ins and every migration of a first start.
_RESERVED: Final = ("alembic",)


def configure(service: str, *, level: str = "INFO", json: bool = True) -> None:
    """Sends all logging of this process to stderr. Replaces what was configured before.

    `json=False` prints short lines for people instead.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service) if json else TextFormatter(service))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _RESERVED:
        # Said to each one rather than filtered, so that a DEBUG process still hears all.
        logging.getLogger(name).setLevel(
            root.level if root.level <= logging.DEBUG else max(root.level, logging.WARNING)
        )


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "service": self._service,
            "logger": record.name,
            "event": record.getMessage(),
        }
        trace_id = current_trace_id()
        if trace_id:
            line["trace_id"] = trace_id
        line.update(_extra(record))
        if record.exc_info:
            line["stack"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


class TextFormatter(logging.Formatter):
    """`12:30:01.250 INFO session rpc failed code=NOT_FOUND method=/mobot…` for people."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3]
        extra = "".join(f" {key}={value}" for key, value in _extra(record).items())
        line = f"{time} {record.levelname} {self._service} {record.getMessage()}{extra}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in record.__dict__.items() if key not in _OWN_FIELDS}
