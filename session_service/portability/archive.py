"""The lossless archive: gzip of lines of JSON. A line that describes the session, one for each event, and one that says
how many there were and their SHA-256. Archives can be put behind one another.

    {"format": "mobot-session-archive", "version": 1, "session": {...}, "transcripts": [...], ...}
    [sequence, transcript, id, kind, run, microseconds, base64 of the event in protobuf]
    {"end": 41, "sha256": "..."}
"""

import base64
import binascii
import hashlib
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import orjson
from google.protobuf import json_format
from google.protobuf.message import DecodeError

from chassis.errors import AppError
from chassis.resource_names import SessionName, parse_session
from mobot.session.v1 import event_pb2, session_pb2
from session_service.convert.whole import from_proto_whole, to_proto_whole
from session_service.domain.event import EventKind
from session_service.domain.transfer import LINE_UNREADABLE, SESSION_REFUSED, Line, Parcel, Problem, Transcript
from session_service.portability.intake import TextLine
from session_service.store.transferring import Manifest

FORMAT = "mobot-session-archive"
VERSION = 1

_KIND_NAMES = {field.number: field.name for field in event_pb2.Event.DESCRIPTOR.oneofs_by_name["payload"].fields}
_MAX_TRANSCRIPTS = 100_000


class ArchiveWriter:
    """Makes the bytes of one archive, piece by piece."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._places = {transcript.uid: place for place, transcript in enumerate(manifest.transcripts)}
        self._packer = zlib.compressobj(wbits=31)
        self._digest = hashlib.sha256()
        self._count = 0

    def begin(self) -> bytes:
        session = self._manifest.session
        whole = json_format.MessageToDict(to_proto_whole(session), preserving_proto_field_name=True)
        head = {
            "format": FORMAT,
            "version": VERSION,
            "session": whole,
            "summary": [session.head.summary_sequence, session.head.summary_through],
            "expiry_warned": session.expiry_warned,
            "archive_due": session.archive_due,
            "transcripts": [list(transcript) for transcript in self._manifest.transcripts],
        }
        return self._pack(orjson.dumps(head))

    def add(self, lines: Sequence[Line]) -> bytes:
        self._count += len(lines)
        return b"".join(
            self._pack(
                orjson.dumps(
                    (
                        line.sequence,
                        self._places[line.uid],
                        line.event_id,
                        line.kind,
                        line.run,
                        line.create_time,
                        base64.b64encode(line.payload).decode(),
                    )
                )
            )
            for line in lines
        )

    def end(self) -> bytes:
        digest = self._digest.hexdigest()
        return self._pack(orjson.dumps({"end": self._count, "sha256": digest})) + self._packer.flush()

    def _pack(self, line: bytes) -> bytes:
        line += b"\n"
        self._digest.update(line)
        return self._packer.compress(line)


class _Broken(Exception):
    """What is wrong with the session being read. `line` is its number."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def read_names(lines: Iterator[TextLine]) -> Iterator[tuple[str, str]]:
    """The (resource name, uid) of each session, without reading the events."""
    for line in lines:
        if line.data[:1] == b"{" and b'"format"' in line.data:
            try:
                session = orjson.loads(line.data)["session"]
                yield str(session["name"]), str(session["uid"])
            except (orjson.JSONDecodeError, KeyError, TypeError):
                continue


def read_archive(lines: Iterator[TextLine]) -> Iterator[Parcel | Problem]:
    """Its sessions. One of which a line is damaged or missing is not taken at all: it would not be what it was."""
    held: list[TextLine] = []
    for line in lines:
        opens = line.data[:1] == b"{" and b'"format"' in line.data
        if opens and held:
            yield _truncated(held)
            held = []
        held.append(line)
        if not opens and line.data[:7] == b'{"end":':
            yield _parcel_or_problem(held)
            held = []
    if held:
        yield _truncated(held)


def _truncated(held: Sequence[TextLine]) -> Problem:
    return Problem(f"line {held[0].number}", "the session has no end: the archive is cut off", SESSION_REFUSED)


def _parcel_or_problem(held: Sequence[TextLine]) -> Parcel | Problem:
    try:
        return _parcel(held)
    except _Broken as broken:
        return Problem(f"line {broken.line}", f"{broken}; the session is left out", LINE_UNREADABLE)
    except AppError as refusal:
        return Problem(f"line {held[0].number}", refusal.message, SESSION_REFUSED)


def _parcel(held: Sequence[TextLine]) -> Parcel:
    first, last = held[0], held[-1]
    digest = hashlib.sha256()
    for line in held[:-1]:
        if line.too_long:
            raise _Broken(line.number, "the line is too long")
        digest.update(line.data + b"\n")
    head, end = _object(first), _object(last)
    if end.get("sha256") != digest.hexdigest() or end.get("end") != len(held) - 2:
        raise _Broken(last.number, "the lines are not those that were written")
    if head.get("format") != FORMAT or head.get("version") != VERSION:
        raise _Broken(first.number, f"this is no {FORMAT} of version {VERSION}")
    try:
        whole = json_format.ParseDict(head["session"], session_pb2.Session(), ignore_unknown_fields=True)
        transcripts = [_transcript(each) for each in head["transcripts"][:_MAX_TRANSCRIPTS]]
        summary = (int(head["summary"][0]), int(head["summary"][1]))
        warned, due = _optional(head.get("expiry_warned")), _optional(head.get("archive_due"))
    except (json_format.ParseError, KeyError, IndexError, TypeError, ValueError) as error:
        raise _Broken(first.number, "the session cannot be read") from error
    name = parse_session(whole.name, field="session.name")
    session = from_proto_whole(whole, name, summary=summary, expiry_warned=warned, archive_due=due)
    lines = [_line(line, transcripts) for line in held[1:-1]]
    _check(first, session.head.uid, session.head.last_sequence, transcripts, lines)
    return Parcel(session, transcripts, lines)


def _check(first: TextLine, uid: str, last: int, transcripts: Sequence[Transcript], lines: Sequence[Line]) -> None:
    if [line.sequence for line in lines] != list(range(1, last + 1)):
        raise _Broken(first.number, "the sequences have gaps")
    if len({line.event_id for line in lines}) != len(lines):
        raise _Broken(first.number, "two events have one id")
    uids = [transcript.uid for transcript in transcripts]
    if uid not in uids or len(set(uids)) != len(uids):
        raise _Broken(first.number, "the transcripts do not fit the session")


def _object(line: TextLine) -> dict[str, Any]:
    try:
        value = orjson.loads(line.data)
    except orjson.JSONDecodeError as error:
        raise _Broken(line.number, "the line is not JSON") from error
    if not isinstance(value, dict):
        raise _Broken(line.number, "the line is no object")
    return value


def _transcript(given: Sequence[Any]) -> Transcript:
    uid, start, time, kept = given
    if not (isinstance(uid, str) and isinstance(kept, str | None) and uid):
        raise ValueError("a transcript has a uid")
    return Transcript(uid, int(start), int(time), kept)


def _line(line: TextLine, transcripts: Sequence[Transcript]) -> Line:
    try:
        sequence, place, event_id, kind, run, time, payload = orjson.loads(line.data)
        data = base64.b64decode(payload, validate=True)
        event = event_pb2.Event.FromString(data)
        known = EventKind(kind)
        fits = event.WhichOneof("payload") == _KIND_NAMES[known] and event.id == event_id and place >= 0
        read = Line(int(sequence), transcripts[place].uid, event_id, int(known), str(run), int(time), data)
    except (orjson.JSONDecodeError, binascii.Error, DecodeError, ValueError, TypeError, IndexError) as error:
        raise _Broken(line.number, "the event cannot be read") from error
    if not fits:
        raise _Broken(line.number, "the event is not what the line says")
    return read


def _optional(value: object) -> int | None:
    return None if value is None else int(str(value))


def moved_to(parcel: Parcel, name: SessionName, uids: dict[str, str]) -> Parcel:
    """The same session under another name, its transcripts under other uids."""
    session = parcel.session
    head = replace(
        session.head, bot=name.bot, session_id=name.session, uid=uids.get(session.head.uid, session.head.uid)
    )
    previous = uids.get(session.previous_uid, session.previous_uid)
    return Parcel(
        replace(session, head=head, previous_uid=previous),
        [transcript._replace(uid=uids.get(transcript.uid, transcript.uid)) for transcript in parcel.transcripts],
        [line._replace(uid=uids.get(line.uid, line.uid)) for line in parcel.lines],
    )
