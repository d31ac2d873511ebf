"""Small stores of OpenClaw: the files of 2026.2 as a tar, and the SQLite file of 2026.9."""

import io
import json
import sqlite3
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import zstandard

UID = "0b7f0f5e-1111-4222-8333-444455556666"
FORMER = "0b7f0f5e-0000-4222-8333-444455556666"


def message(entry_id: str, parent: str | None, role: str, content, *, at: str = "2026-02-09T10:00:00.000Z", **fields):
    return {
        "type": "message",
        "id": entry_id,
        "parentId": parent,
        "timestamp": at,
        "message": {"role": role, "content": content, "timestamp": 1_770_631_200_000, **fields},
    }


def transcript(uid: str = UID) -> list[dict]:
    """A question, an answer by way of a tool, and what stands around them."""
    stamped = "[Mon 2026-02-09 10:00 UTC] what is the weather?\n[message_id: 7d0c]"
    call = {"type": "toolCall", "id": "call-1", "name": "weather", "arguments": {"city": "Bern"}}
    usage = {"input": 10, "output": 5, "cacheRead": 1, "cacheWrite": 2, "totalTokens": 15, "cost": {"total": 0.5}}
    answered = {"usage": usage, "provider": "p", "model": "q"}
    thought = {"type": "thinking", "thinking": "hm"}
    return [
        {"type": "session", "version": 3, "id": uid, "timestamp": "2026-02-09T09:59:00.000Z", "cwd": "/x"},
        {"type": "model_change", "id": "m0", "parentId": None, "timestamp": "2026-02-09T09:59:30.000Z", "modelId": "x"},
        message("m1", "m0", "user", [{"type": "text", "text": stamped}]),
        message("m2", "m1", "assistant", [thought, call], **answered),
        message("m3", "m2", "toolResult", [{"type": "text", "text": "sunny"}], toolCallId="call-1", toolName="weather"),
        message(
            "m4", "m3", "assistant", [{"type": "text", "text": "It is sunny."}], usage=usage, provider="p", model="q"
        ),
    ]


def entry(uid: str = UID, **fields) -> dict:
    return {"sessionId": uid, "updatedAt": 1_770_631_300_000, "skillsSnapshot": {"prompt": "x" * 1_000}, **fields}


def lines(entries: Sequence[Mapping]) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in entries)


def tar(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as packed:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            packed.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def files_store(index: Mapping, transcripts: Mapping[str, bytes]) -> bytes:
    return tar({"sessions.json": json.dumps(index).encode(), **transcripts})


# The tables as 2026.9.6 makes them, without the columns that nobody reads here.
_SCHEMA = """
CREATE TABLE session_nodes (session_key TEXT NOT NULL PRIMARY KEY, current_session_id TEXT NOT NULL,
  entry_json TEXT NOT NULL, updated_at INTEGER NOT NULL, label TEXT) STRICT;
CREATE TABLE session_windows (session_id TEXT NOT NULL PRIMARY KEY, session_key TEXT NOT NULL,
  previous_session_id TEXT, reason TEXT, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL) STRICT;
CREATE TABLE transcript_events (session_id TEXT NOT NULL, seq INTEGER NOT NULL, event_json TEXT,
  created_at INTEGER NOT NULL, event_zstd BLOB, event_utf8_bytes INTEGER, navigation_json TEXT,
  PRIMARY KEY (session_id, seq)) STRICT;
CREATE TABLE session_transcript_active_events (session_id TEXT NOT NULL, active_position INTEGER NOT NULL,
  event_seq INTEGER NOT NULL, PRIMARY KEY (session_id, active_position)) STRICT;
CREATE TABLE session_pending_inputs (seq INTEGER PRIMARY KEY AUTOINCREMENT, session_key TEXT NOT NULL,
  state TEXT NOT NULL, consumed_event_id TEXT) STRICT;
"""


def sqlite_store(path: Path, *, packed: bool = True, waiting: int = 0) -> bytes:
    """A session with a former and a present transcript; long lines are compressed when `packed`."""
    conn = sqlite3.connect(path)
    conn.execute("PRAGMA journal_mode=WAL")
    conn.executescript(_SCHEMA)
    key = "agent:main:weather"
    conn.execute(
        "INSERT INTO session_nodes VALUES (?, ?, ?, 1, 'Weather')", (key, UID, json.dumps(entry(label="Weather")))
    )
    for number, uid in enumerate((FORMER, UID)):
        conn.execute("INSERT INTO session_windows VALUES (?, ?, NULL, 'reset', ?, 1)", (uid, key, number))
        for seq, each in enumerate(transcript(uid)):
            text = json.dumps(each)
            if packed and each["type"] == "message":
                blob = zstandard.ZstdCompressor().compress(text.encode())
                row = (uid, seq, None, 1, blob, len(text), "{}")
            else:
                row = (uid, seq, text, 1, None, None, None)
            conn.execute("INSERT INTO transcript_events VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            if uid == UID:
                conn.execute("INSERT INTO session_transcript_active_events VALUES (?, ?, ?)", (uid, seq, seq))
    for _ in range(waiting):
        conn.execute("INSERT INTO session_pending_inputs VALUES (NULL, ?, 'queued', NULL)", (key,))
    conn.commit()
    conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    conn.close()
    return path.read_bytes()
