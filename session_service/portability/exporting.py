"""A session on its way out, in pieces, as of the moment at which the export began."""

from collections.abc import AsyncIterator
from functools import partial

from session_service.domain.transfer import Line
from session_service.portability.archive import ArchiveWriter
from session_service.portability.markdown import MarkdownWriter
from session_service.portability.openclaw import TranscriptWriter
from session_service.store import transferring
from session_service.store.store import Store
from session_service.store.transferring import Manifest

Writer = ArchiveWriter | MarkdownWriter | TranscriptWriter

MAX_PIECE = 1024 * 1024


async def export(store: Store, manifest: Manifest, writer: Writer, uid: str) -> AsyncIterator[bytes]:
    """Pieces of at most MAX_PIECE bytes. `uid`: of the one transcript that is wanted, "" for all."""
    held = bytearray(writer.begin())
    head = manifest.session.head
    at = 0
    while at < head.last_sequence:
        read = partial(transferring.read_lines, session=head.pk, after=at, through=head.last_sequence)
        lines = await store.read(read)
        if not lines:
            break  # purged meanwhile; the archive's last line says how many there are
        at = lines[-1].sequence
        held += writer.add(_of(lines, uid))
        while len(held) >= MAX_PIECE:
            yield bytes(held[:MAX_PIECE])
            del held[:MAX_PIECE]
    held += writer.end()
    while held:
        yield bytes(held[:MAX_PIECE])
        del held[:MAX_PIECE]


def _of(lines: list[Line], uid: str) -> list[Line]:
    return [line for line in lines if line.uid == uid] if uid else lines
