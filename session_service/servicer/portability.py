"""The calls that take sessions out and in."""

# ruff: noqa: ARG002 - gRPC gives every method a context

import asyncio
import hashlib
from collections.abc import AsyncIterator
from functools import partial

from chassis.errors import field_invalid
from chassis.identity import bot_of, caller
from chassis.resource_names import parse_bot
from mobot.session.v1 import session_service_pb2
from session_service.convert import checks
from session_service.domain.errors import TranscriptNotFound
from session_service.domain.transfer_errors import ImportUnreadable, OperatorsOnly
from session_service.portability.archive import ArchiveWriter
from session_service.portability.exporting import Writer, export
from session_service.portability.importing import Importer, ImportReport, Order
from session_service.portability.intake import Kind, Spool
from session_service.portability.markdown import MarkdownWriter
from session_service.portability.openclaw import TranscriptWriter
from session_service.servicer.calls import Calls
from session_service.store import transferring
from session_service.store.store import Claim, Replayed
from session_service.store.transferring import Manifest

_ENDINGS = {
    session_service_pb2.EXPORT_FORMAT_UNSPECIFIED: "mobot.jsonl.gz",
    session_service_pb2.EXPORT_FORMAT_ARCHIVE: "mobot.jsonl.gz",
    session_service_pb2.EXPORT_FORMAT_MARKDOWN: "md",
    session_service_pb2.EXPORT_FORMAT_OPENCLAW_JSONL: "jsonl",
}
_KINDS = {session_service_pb2.ImportFormat.Value(kind.value): kind for kind in Kind}
_WAY_BACK = (
    "Nothing was read but the bytes that were sent, and nothing but new sessions was written. To go back: "
    "delete the sessions that this report names (mobot sessions delete; they are purged after a while), or stop mobot "
    "and put back the copy of session.sqlite3 that was made before. The source is as it was."
)


class PortabilityCalls(Calls):
    """Export, import."""

    async def ExportSession(
        self, request: session_service_pb2.ExportSessionRequest, context: object
    ) -> AsyncIterator[session_service_pb2.ExportSessionResponse]:
        name = self._visible_parts(request.name)
        ending = _ENDINGS.get(request.format)
        if ending is None:
            raise field_invalid("format", "is no format", value=str(request.format))
        manifest = await self._store.read(partial(transferring.read_manifest, name=name.name))
        writer, uid = _writer(manifest, request)
        file_name = f"{name.bot}-{name.session}.{ending}".replace(":", "-")
        response = session_service_pb2.ExportSessionResponse(
            file_name=file_name, event_count=manifest.session.head.last_sequence
        )
        async for piece in export(self._store, manifest, writer, uid):
            response.chunk = piece
            yield response
            response = session_service_pb2.ExportSessionResponse()

    async def ImportSessions(
        self, request_iterator: AsyncIterator[session_service_pb2.ImportSessionsRequest], context: object
    ) -> session_service_pb2.ImportSessionsResponse:
        actor = caller().actor
        if bot_of(caller()) is not None:
            raise OperatorsOnly(actor)
        first: session_service_pb2.ImportSessionsRequest | None = None
        digest = hashlib.sha256()
        spool = Spool(self._import_limit)
        try:
            async for request in request_iterator:
                if first is None:
                    first = session_service_pb2.ImportSessionsRequest()
                    first.CopyFrom(request)
                    first.ClearField("chunk")
                digest.update(request.chunk)
                await asyncio.to_thread(spool.add, request.chunk)
            if first is None:
                raise ImportUnreadable("it is empty")
            order, said = _order(first, actor)
            intake = await asyncio.to_thread(spool.open, said)
            report = await Importer(self._store, intake, order, self._bots.check).run()
        finally:
            spool.close()
        response = _to_report(report, dry_run=order.dry_run)
        if not first.request_id or order.dry_run:
            return response
        # The sessions were stored one by one, and would not be stored again; this keeps the words of the first answer.
        fingerprint = hashlib.sha256(digest.digest() + first.SerializeToString(deterministic=True)).hexdigest()
        claim = Claim(
            actor, "ImportSessions", first.request_id, fingerprint, lambda answer: bytes(answer.SerializeToString())
        )
        result = await self._store.write(lambda _: response, claim)
        return response if not isinstance(result, Replayed) else type(response).FromString(result)


def _writer(manifest: Manifest, request: session_service_pb2.ExportSessionRequest) -> tuple[Writer, str]:
    """What makes the bytes, and the uid of the one transcript that goes in ("" for all)."""
    uid = checks.check_text("session_uid", request.session_uid, 256)
    if request.format in (session_service_pb2.EXPORT_FORMAT_UNSPECIFIED, session_service_pb2.EXPORT_FORMAT_ARCHIVE):
        if uid not in ("", "*"):
            raise field_invalid("session_uid", "must be empty or '*' for an archive, which is always whole")
        return ArchiveWriter(manifest), ""
    head = manifest.session.head
    if uid == "*":
        if request.format == session_service_pb2.EXPORT_FORMAT_OPENCLAW_JSONL:
            raise field_invalid("session_uid", "must name one transcript: a file of this format holds one")
        return MarkdownWriter(manifest), ""
    uid = uid or head.uid
    if uid not in {transcript.uid for transcript in manifest.transcripts}:
        raise TranscriptNotFound(head.name, uid)
    if request.format == session_service_pb2.EXPORT_FORMAT_MARKDOWN:
        return MarkdownWriter(manifest), uid
    return TranscriptWriter(manifest, uid), uid


def _order(first: session_service_pb2.ImportSessionsRequest, actor: str) -> tuple[Order, Kind | None]:
    if first.format and first.format not in _KINDS:
        raise field_invalid("format", "is no format", value=str(first.format))
    policies = (
        session_service_pb2.CONFLICT_POLICY_UNSPECIFIED,
        session_service_pb2.CONFLICT_POLICY_FAIL,
        session_service_pb2.CONFLICT_POLICY_USE_EXISTING,
    )
    if first.conflict_policy not in policies:
        raise field_invalid("conflict_policy", "must be FAIL or USE_EXISTING: an import replaces nothing")
    bot = parse_bot(first.bot, field="bot") if first.bot else ""
    use_existing = first.conflict_policy == session_service_pb2.CONFLICT_POLICY_USE_EXISTING
    return Order(bot, actor, first.dry_run, use_existing), _KINDS.get(first.format)


def _encode(response: session_service_pb2.ImportSessionsResponse) -> bytes:
    return response.SerializeToString()


def _to_report(report: ImportReport, *, dry_run: bool) -> session_service_pb2.ImportSessionsResponse:
    return session_service_pb2.ImportSessionsResponse(
        created_count=report.created_count,
        unchanged_count=report.unchanged_count,
        skipped_count=report.skipped_count,
        event_count=report.event_count,
        problems=[
            session_service_pb2.ImportProblem(location=each.location, message=each.message, reason=each.reason)
            for each in report.problems
        ],
        way_back=_WAY_BACK,
        sessions=report.created,
        dry_run=dry_run,
        format=session_service_pb2.ImportFormat.Value(report.kind.value),
    )
