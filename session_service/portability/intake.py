"""What comes in as bytes: kept in a temporary file, unpacked within bounds, recognised by its content.

Nothing is ever unpacked to a path that the import names.
"""

import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import PurePosixPath
from typing import IO, NamedTuple

from session_service.domain.transfer_errors import ImportTooLarge, ImportUnreadable, ImportUnsafe

MAX_LINE = 8 * 1024 * 1024
MAX_MEMBERS = 200_000

_CHUNK = 1024 * 1024
_IN_MEMORY = 4 * 1024 * 1024
_SQLITE = b"SQLite format 3\x00"
_GZIP = b"\x1f\x8b"
_ZIP = b"PK\x03\x04"
_TAR_MARK = 257


class Kind(Enum):
    """What bytes hold. The values are the contract's names."""

    ARCHIVE = "IMPORT_FORMAT_ARCHIVE"
    OPENCLAW_JSON = "IMPORT_FORMAT_OPENCLAW_JSON"
    OPENCLAW_SQLITE = "IMPORT_FORMAT_OPENCLAW_SQLITE"


class TextLine(NamedTuple):
    """A line without its end. Of one that is too long only the beginning is kept."""

    number: int
    data: bytes
    too_long: bool = False


@dataclass(frozen=True, slots=True)
class Intake:
    """An import in the spool's file. `packed`: it is a tar."""

    file: IO[bytes]
    kind: Kind
    packed: bool = False


class Spool:
    """Takes the pieces of an import in. At most `limit` bytes, packed and unpacked alike."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._size = 0
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - closed by its owner

    def add(self, piece: bytes) -> None:
        """Raises ImportTooLarge."""
        self._size += len(piece)
        if self._size > self.limit:
            raise ImportTooLarge("the import", self.limit)
        self._file.write(piece)

    def open(self, said: Kind | None) -> Intake:
        """What was taken in, recognised. It is read until the spool is closed.

        Raises:
            ImportUnreadable: it is nothing that is known, or not what `said` says.
            ImportTooLarge: it unpacks to more than the limit.
        """
        file = self._file
        file.seek(0)
        if file.read(2) == _GZIP:
            file = self._file = _unpacked(file, self.limit)
        intake = _recognised(file)
        if said is not None and said is not intake.kind:
            raise ImportUnreadable(f"it is said to be {said.value} and looks like {intake.kind.value}")
        return intake

    def close(self) -> None:
        self._file.close()


def lines_of(file: IO[bytes]) -> Iterator[TextLine]:
    """The lines of a file, from its beginning; none is kept beyond MAX_LINE."""
    file.seek(0)
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        too_long = len(line) > MAX_LINE and not line.endswith(b"\n")
        if too_long:
            while (rest := file.readline(_CHUNK)) and not rest.endswith(b"\n"):
                pass
        yield TextLine(number, line[: 1024 if too_long else None].rstrip(b"\r\n"), too_long)


def open_tar(file: IO[bytes]) -> tarfile.TarFile:
    file.seek(0)
    try:
        return tarfile.open(fileobj=file, mode="r:")
    except tarfile.TarError as error:
        raise ImportUnreadable("the tar is damaged") from error


def members_of(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The plain files of a tar.

    Raises:
        ImportUnsafe: it holds a link, a device, or a path that leads out of it.
        ImportUnreadable: it is damaged, or has more members than any store.
    """
    try:
        for count, member in enumerate(tar, 1):
            if count > MAX_MEMBERS:
                raise ImportUnreadable(f"the tar has more than {MAX_MEMBERS} members")
            path = PurePosixPath(member.name)
            if path.is_absolute() or ".." in path.parts or "\\" in member.name:
                raise ImportUnsafe(member.name, "which leads out of it")
            if member.isdir():
                continue
            if not member.isreg():
                raise ImportUnsafe(member.name, "which is neither a file nor a directory")
            yield member
    except (tarfile.TarError, EOFError) as error:
        raise ImportUnreadable("the tar is damaged") from error


def _recognised(file: IO[bytes]) -> Intake:
    file.seek(0)
    start = file.read(4096)
    if not start:
        raise ImportUnreadable("it is empty")
    if start.startswith(_SQLITE):
        return Intake(file, Kind.OPENCLAW_SQLITE)
    if start[_TAR_MARK : _TAR_MARK + 5] == b"ustar":
        return Intake(file, Kind.OPENCLAW_JSON, packed=True)
    if start.startswith(_ZIP):
        raise ImportUnreadable("zip files are not taken; unpack it and import the directory")
    if start.startswith(_GZIP):
        raise ImportUnreadable("it is packed twice")
    if start.lstrip()[:1] == b"{":
        is_archive = start.startswith(b'{"format":"mobot-session-archive"')
        return Intake(file, Kind.ARCHIVE if is_archive else Kind.OPENCLAW_JSON)
    raise ImportUnreadable("it is neither an archive nor a store of OpenClaw")


def _unpacked(packed: IO[bytes], limit: int) -> IO[bytes]:
    """What a gzip file holds, all its members, in a file of its own."""
    packed.seek(0)
    unpacked: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - closed with the intake
    size = 0
    unpacker = zlib.decompressobj(wbits=31)
    data = packed.read(_CHUNK)
    try:
        while data:
            piece = unpacker.decompress(data, _CHUNK)
            size += len(piece)
            if size > limit:
                break
            unpacked.write(piece)
            if unpacker.eof:
                data = unpacker.unused_data or packed.read(_CHUNK)
                unpacker = zlib.decompressobj(wbits=31)
                if not data.strip(b"\0"):
                    break
            else:
                data = unpacker.unconsumed_tail or packed.read(_CHUNK)
    except zlib.error as error:
        unpacked.close()
        raise ImportUnreadable("the gzip is damaged") from error
    if size > limit:
        unpacked.close()
        raise ImportTooLarge("what the import unpacks to", limit)
    packed.close()
    return unpacked
