"""OpenClaw stores of 2026.2: sessions.json and a JSONL file for each transcript, in a tar; or one of them alone."""

import tarfile
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import IO, Any, NamedTuple

import orjson

from session_service.domain.transfer import LINE_UNREADABLE, SESSION_REFUSED, Problem
from session_service.domain.transfer_errors import ImportTooLarge, ImportUnreadable
from session_service.portability.foreign_lines import Report, entries_of, present_branch
from session_service.portability.foreign_session import Generation
from session_service.portability.intake import lines_of, members_of, open_tar

MAX_INDEX = 256 * 1024 * 1024
_INDEXES = ("sessions.json", "sessions-store.json")


class Found(NamedTuple):
    """A session of a foreign store: its key, its entry, its transcripts (oldest first), and where it stood."""

    key: str
    entry: Mapping[str, Any]
    generations: list[Generation]
    location: str


class Keyed(NamedTuple):
    """A session of which only the key and the present transcript's uid were looked at."""

    key: str
    uid: str


def keys_in(file: IO[bytes], *, packed: bool) -> Iterator[Keyed]:
    for _, index, _ in _indexes(file, packed=packed):
        for key, entry in index.items():
            if isinstance(entry, dict) and _uid(entry):
                yield Keyed(key, _uid(entry))


def sessions_in(file: IO[bytes], *, packed: bool, report: Report) -> Iterator[Found | Problem]:
    for where, index, transcripts in _indexes(file, packed=packed):
        for key, entry in index.items():
            location = f"{where}: {key[:200]}"
            if not isinstance(entry, dict) or not _uid(entry):
                yield Problem(location, "the entry has no session id", SESSION_REFUSED)
                continue
            yield Found(key, entry, [_generation(entry, transcripts, location, report)], location)
        if transcripts is None:
            report(
                Problem(where, "it has no transcripts beside it: the sessions come without their past", LINE_UNREADABLE)
            )
        else:
            transcripts.tell_unused(report)


class _Transcripts:
    """The transcripts beside one index."""

    def __init__(
        self, tar: tarfile.TarFile | None, members: dict[str, tarfile.TarInfo], loose: IO[bytes] | None
    ) -> None:
        self._tar = tar
        self._members = members
        self._loose = loose
        self._used: set[str] = set()

    def read(self, name: str, report: Report) -> Generation | None:
        member = self._members.get(name)
        file = self._loose
        if self._tar is not None and member is not None:
            file = self._tar.extractfile(member)
        if file is None:
            return None
        self._used.add(name)
        entries = entries_of(lines_of(file), name, report)
        return Generation("", present_branch(entries, name, report))

    def tell_unused(self, report: Report) -> None:
        for name in sorted(self._members.keys() - self._used):
            report(Problem(name, "no session of the index has this transcript; it was left out", SESSION_REFUSED))


def _indexes(file: IO[bytes], *, packed: bool) -> Iterator[tuple[str, Mapping[str, Any], _Transcripts | None]]:
    if not packed:
        yield _alone(file)
        return
    with open_tar(file) as tar:
        members = {member.name.removeprefix("./"): member for member in members_of(tar)}
        indexes = [name for name in members if PurePosixPath(name).name in _INDEXES]
        if not indexes:
            raise ImportUnreadable("the tar holds no sessions.json")
        for name in sorted(indexes):
            directory = PurePosixPath(name).parent
            beside = {
                PurePosixPath(other).name: member
                for other, member in members.items()
                if other.endswith(".jsonl") and PurePosixPath(other).parent == directory
            }
            if members[name].size > MAX_INDEX:
                raise ImportTooLarge(name, MAX_INDEX)
            index = tar.extractfile(members[name])
            yield name, _index(index.read() if index is not None else b"", name), _Transcripts(tar, beside, None)


def _alone(file: IO[bytes]) -> tuple[str, Mapping[str, Any], _Transcripts | None]:
    """An index without transcripts, or a transcript without an index."""
    first = next(lines_of(file), None)
    header = _header(first.data) if first is not None else None
    if header is not None:
        uid = str(header.get("id") or "")
        entry = {"sessionId": uid, "createdAt": header.get("timestamp"), "sessionFile": f"{uid}.jsonl"}
        return "transcript", {f"imported:{uid}": entry}, _Transcripts(None, {}, file)
    file.seek(0)
    data = file.read(MAX_INDEX + 1)
    if len(data) > MAX_INDEX:
        raise ImportTooLarge("the index", MAX_INDEX)
    return "index", _index(data, "index"), None


def _header(line: bytes) -> Mapping[str, Any] | None:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) and value.get("type") == "session" else None


def _index(data: bytes, name: str) -> Mapping[str, Any]:
    try:
        index = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ImportUnreadable(f"{name} is not JSON ({error})", location=name) from None
    if not isinstance(index, dict):
        raise ImportUnreadable(f"{name} is no object of sessions", location=name)
    if index and not any(map(_may_be_session, index.items())):
        raise ImportUnreadable(f"{name} holds nothing that looks like a session", location=name)
    return index


def _may_be_session(item: tuple[str, Any]) -> bool:
    """Also one that is damaged, which is reported then."""
    key, entry = item
    return key.startswith("agent:") or (isinstance(entry, dict) and bool(_uid(entry)))


def _generation(
    entry: Mapping[str, Any], transcripts: _Transcripts | None, location: str, report: Report
) -> Generation:
    uid = _uid(entry)
    if transcripts is None:
        return Generation(uid, ())
    given = entry.get("sessionFile")
    names = [PurePosixPath(given.replace("\\", "/")).name] if isinstance(given, str) and given else []
    for name in (*names, f"{uid}.jsonl"):
        read = transcripts.read(name, report)
        if read is not None:
            return read._replace(uid=uid)
    report(Problem(location, f"its transcript {uid}.jsonl is not there: it comes without its past", LINE_UNREADABLE))
    return Generation(uid, ())


def _uid(entry: Mapping[str, Any]) -> str:
    uid = entry.get("sessionId")
    return uid if isinstance(uid, str) and 0 < len(uid) <= 128 and uid.isprintable() else ""
