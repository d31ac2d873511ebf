"""The lines of an OpenClaw transcript, which are a tree, in the order in which they were said."""

from collections.abc import Callable, Iterable, Sequence

import orjson

from session_service.domain.transfer import LINE_TOO_LONG, LINE_UNREADABLE, Problem
from session_service.portability.foreign_session import Entry
from session_service.portability.intake import TextLine

Report = Callable[[Problem], None]


def entries_of(lines: Iterable[TextLine], file: str, report: Report) -> list[Entry]:
    """The lines that can be read; each of the others is reported."""
    entries: list[Entry] = []
    for line in lines:
        location = f"{file}:{line.number}"
        if line.too_long:
            report(Problem(location, "the line was left out: it is too long", LINE_TOO_LONG))
        elif line.data.strip():
            entry = entry_of(line.data, location, report)
            if entry is not None:
                entries.append(entry)
    return entries


def entry_of(data: bytes, location: str, report: Report) -> Entry | None:
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        report(Problem(location, f"the line was left out: it is not JSON ({error})", LINE_UNREADABLE))
        return None
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        report(Problem(location, "the line was left out: it has no type", LINE_UNREADABLE))
        return None
    return Entry(value, location)


def present_branch(entries: Sequence[Entry], file: str, report: Report) -> list[Entry]:
    """From the root to the last line. Where a parent is missing, which a damaged line leaves behind, the line before it
    stands in: rather a line too many than a conversation cut off."""
    place = {str(entry.value["id"]): at for at, entry in enumerate(entries) if entry.value.get("id")}
    branch: list[Entry] = []
    at = len(entries) - 1
    while at >= 0:
        entry = entries[at]
        branch.append(entry)
        parent = entry.value.get("parentId")
        known = place.get(str(parent)) if parent else None
        if parent is None and "parentId" in entry.value and entry.value.get("type") != "session":
            # A root. A header may stand before it.
            at = 0 if at and entries[0].value.get("type") == "session" else -1
        else:
            at = known if known is not None and known < at else at - 1
    branch.reverse()
    left = len(entries) - len(branch)
    if left:
        report(Problem(file, f"{left} lines of branches that were abandoned were left out", LINE_UNREADABLE))
    return branch
