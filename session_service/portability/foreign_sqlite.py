"""OpenClaw's stores of 2026.9: a SQLite file for each agent. It is opened for reading only, and never asked for more
than rows of the tables that are known."""

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import zstandard

from session_service.domain.transfer import LINE_TOO_LONG, LINE_UNREADABLE, SESSION_REFUSED, Problem
from session_service.domain.transfer_errors import ImportUnreadable
from session_service.portability.foreign_files import Found, Keyed
from session_service.portability.foreign_lines import Report, entry_of, present_branch
from session_service.portability.foreign_session import Entry, Generation
from session_service.portability.intake import MAX_LINE

_TABLES = ("session_nodes", "session_windows", "transcript_events")
_WINDOW = 27  # log2 of the memory that a compressed line may ask for
_PAGE = 500


def keys_in(path: Path) -> Iterator[Keyed]:
    with contextlib.closing(_open(path)) as conn, _readable():
        for key, uid in conn.execute("SELECT session_key, current_session_id FROM session_nodes ORDER BY session_key"):
            if isinstance(key, str) and isinstance(uid, str) and uid:
                yield Keyed(key, uid)


def sessions_in(path: Path, report: Report) -> Iterator[Found | Problem]:
    with contextlib.closing(_open(path)) as conn, _readable():
        has_branches = _has(conn, "session_transcript_active_events")
        nodes = conn.execute(
            "SELECT session_key, current_session_id, entry_json FROM session_nodes ORDER BY session_key"
        )
        for key, uid, entry_json in nodes:
            location = f"session_nodes: {str(key)[:200]}"
            entry = _entry(entry_json)
            if entry is None or not isinstance(key, str) or not isinstance(uid, str) or not 0 < len(uid) <= 128:
                yield Problem(location, "the entry cannot be read", SESSION_REFUSED)
                continue
            uids = _windows(conn, key, uid)
            generations = [_generation(conn, each, report, branches=has_branches) for each in uids]
            yield Found(key, entry, generations, location)
        _tell_waiting(conn, report)


def _open(path: Path) -> sqlite3.Connection:
    """Raises ImportUnreadable: it is no such store."""
    try:
        conn = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False)
        conn.text_factory = lambda data: data.decode(errors="replace")
        for pragma in ("query_only=ON", "trusted_schema=OFF", "cell_size_check=ON"):
            conn.execute(f"PRAGMA {pragma}")
        missing = [table for table in _TABLES if not _has(conn, table)]
    except sqlite3.Error as error:
        raise ImportUnreadable(f"the SQLite file is damaged ({error})") from None
    if missing:
        conn.close()
        raise ImportUnreadable(f"the SQLite file is no store of OpenClaw: it has no table {missing[0]}")
    return conn


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise ImportUnreadable(f"the SQLite file is damaged ({error})") from None


def _has(conn: sqlite3.Connection, table: str) -> bool:
    """Whether it is a plain table: a view of that name could be anything."""
    found = conn.execute(
        "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ? AND sql LIKE 'CREATE TABLE%'", (table,)
    )
    return found.fetchone() is not None


def _entry(text: object) -> Mapping[str, Any] | None:
    try:
        entry = orjson.loads(text) if isinstance(text, str) else None
    except orjson.JSONDecodeError:
        return None
    return entry if isinstance(entry, dict) else None


def _windows(conn: sqlite3.Connection, key: str, present: str) -> list[str]:
    """The transcripts of a session, the present one last."""
    rows = conn.execute(
        "SELECT session_id FROM session_windows WHERE session_key = ? ORDER BY created_at, rowid", (key,)
    )
    former = [row[0] for row in rows if isinstance(row[0], str) and row[0] != present and 0 < len(row[0]) <= 128]
    return [*former, present]


def _generation(conn: sqlite3.Connection, uid: str, report: Report, *, branches: bool) -> Generation:
    active: set[int] = set()
    if branches:
        rows = conn.execute("SELECT event_seq FROM session_transcript_active_events WHERE session_id = ?", (uid,))
        active = {row[0] for row in rows}
    entries: list[Entry] = []
    others = 0
    lines = conn.execute(
        "SELECT seq, event_json, event_zstd FROM transcript_events WHERE session_id = ? ORDER BY seq", (uid,)
    )
    for seq, text, packed in lines:
        location = f"transcript_events: {uid}:{seq}"
        data = _line(text, packed, location, report)
        entry = entry_of(data, location, report) if data is not None else None
        if entry is None:
            continue
        if active and seq not in active and entry.value.get("type") != "session":
            others += 1
            continue
        entries.append(entry)
    where = f"transcript_events: {uid}"
    if others:
        report(Problem(where, f"{others} lines of branches that were abandoned were left out", LINE_UNREADABLE))
    return Generation(uid, entries if active else present_branch(entries, where, report))


def _line(text: object, packed: object, location: str, report: Report) -> bytes | None:
    if isinstance(text, str):
        data = text.encode()
    elif isinstance(packed, bytes):
        try:
            # As a stream, because the size that a packed line claims is not to be believed.
            with zstandard.ZstdDecompressor(max_window_size=1 << _WINDOW).stream_reader(packed) as reader:
                data = reader.read(MAX_LINE + 1)
        except zstandard.ZstdError as error:
            report(Problem(location, f"the line was left out: it cannot be unpacked ({error})", LINE_UNREADABLE))
            return None
    else:
        report(Problem(location, "the line was left out: it is empty", LINE_UNREADABLE))
        return None
    if len(data) > MAX_LINE:
        report(Problem(location, "the line was left out: it is too long", LINE_TOO_LONG))
        return None
    return data


def _tell_waiting(conn: sqlite3.Connection, report: Report) -> None:
    """Mail that was accepted and not yet worked on is no part of a transcript. It is not passed over in silence."""
    if not _has(conn, "session_pending_inputs"):
        return
    waiting = conn.execute(
        "SELECT session_key, count(*) FROM session_pending_inputs WHERE consumed_event_id IS NULL "
        "AND state <> 'cancelled' GROUP BY session_key"
    )
    for key, count in waiting:
        message = f"{count} messages were waiting to be worked on; they are not imported: send them again"
        report(Problem(f"session_pending_inputs: {str(key)[:200]}", message, LINE_UNREADABLE))
