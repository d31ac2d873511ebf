"""The log file of one child: rotated by size when the supervisor starts, and read back when the child dies.

Children write to the file itself and not through the supervisor, so a dead supervisor cannot cost a log line.
"""

import json
import os
from pathlib import Path

ROTATE_AT_BYTES = 10 * 1024 * 1024
KEPT_ROTATIONS = 3
_TAIL_BYTES = 32 * 1024


def rotate(path: Path) -> None:
    """Moves `path` to `path.1` when it has grown past ROTATE_AT_BYTES; the oldest of KEPT_ROTATIONS is dropped."""
    if not path.exists() or path.stat().st_size < ROTATE_AT_BYTES:
        return
    for number in range(KEPT_ROTATIONS, 0, -1):
        older = path.with_name(f"{path.name}.{number - 1}") if number > 1 else path
        if older.exists():
            older.replace(path.with_name(f"{path.name}.{number}"))


def open_for_append(path: Path) -> int:
    """A descriptor for a child's standard output and error. The file is the user's alone: it may hold names of bots."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def last_lines(path: Path, *, since: int, count: int) -> list[str]:
    """The last `count` non-empty lines written after byte `since`, JSON log lines made readable."""
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        start = max(since, file.tell() - _TAIL_BYTES)
        file.seek(start)
        text = file.read().decode(errors="replace")
    lines = [line for raw in text.splitlines() if (line := raw.rstrip())]
    return [_readable(line) for line in lines[-count:]]


def _readable(line: str) -> str:
    """A JSON log line as "LEVEL event key=value"; anything else as it is."""
    if not line.startswith("{"):
        return line
    try:
        record = json.loads(line)
    except ValueError:
        return line
    if not isinstance(record, dict) or "event" not in record:
        return line
    rest = " ".join(
        f"{key}={value}" for key, value in record.items() if key not in {"time", "level", "service", "event"} and value
    )
    return f"{record.get('level', 'INFO')} {record['event']} {rest}".rstrip()
