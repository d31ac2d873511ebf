"""What commands print: a table for people, JSON for programs; control characters of others never reach the terminal."""

import io
import json
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from google.protobuf import json_format, timestamp_pb2
from google.protobuf.message import Message
from rich.console import Console
from rich.table import Table
from rich.text import Text

_PIPE_COLUMNS = 100_000
_UNSHOWABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def print_json(value: object) -> None:
    """One JSON document, indented."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def print_json_line(value: object) -> None:
    """One line of JSON, for streams."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def as_json(message: Message) -> Any:  # noqa: ANN401 - JSON
    """The contract's own JSON form, with the field names of the contract."""
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def print_table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str) -> None:
    """A table, or the sentence `empty` when there is no row. Cells are shown as they are, never as markup."""
    lines = [[Text(clean(cell)) for cell in row] for row in rows]
    if not lines:
        print_line(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        table.add_column(head, overflow="fold")
    for line in lines:
        table.add_row(*line)
    if sys.stdout.isatty():
        Console(highlight=False).print(table)
        return
    # In a pipe nothing is folded, since a key cut in two is found by no grep, and no line ends in blanks.
    console = Console(highlight=False, width=_PIPE_COLUMNS, file=io.StringIO())
    with console.capture() as printed:
        console.print(table)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in printed.get().splitlines()))


def print_line(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def clean(text: str, *, limit: int | None = None) -> str:
    """`text` on one line without control characters and what turns its direction around, cut to `limit` characters."""
    line = _UNSHOWABLE.sub(" ", text)
    if limit is not None and len(line) > limit:
        return line[: limit - 1] + "…"
    return line


def clean_block(text: str) -> str:
    """`text` with its line breaks, without other control characters."""
    return "\n".join(clean(line.expandtabs(4)) for line in text.split("\n"))


def age(time: timestamp_pb2.Timestamp) -> str:
    """How long ago, as people say it; "-" for an absent time."""
    if not time.seconds:
        return "-"
    seconds = int(datetime.now(UTC).timestamp() - time.seconds)
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return "now" if seconds < 5 else f"{seconds} s ago"


def clock_time(time: timestamp_pb2.Timestamp) -> str:
    """Local wall-clock time."""
    return time.ToDatetime(UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
