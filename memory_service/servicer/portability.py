"""Exports and imports."""

# ruff: noqa: ARG002 - the signatures are gRPC's

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from chassis import resource_names
from chassis.errors import AppError, Draining, field_invalid
from chassis.identity import caller
from memory_service.convert import checks
from memory_service.convert.exports import Format, from_proto_export
from memory_service.convert.memories import MAX_BATCH_BYTES, MAX_DRAFTS
from memory_service.convert.records import RecordReader, from_line, refused_record, to_line, to_proto_record
from memory_service.convert.requests import to_ticket
from memory_service.domain import access
from memory_service.domain.errors import ImportRecordInvalid
from memory_service.domain.portability import Conflict, Header, Imported, Record, VectorKind
from memory_service.servicer.calls import Calls, Context, writable_bot
from memory_service.store.exporting import MAX_RECORDS, ExportPlace
from memory_service.store.importing import ImportOutcome
from mobot.memory.v1 import memory_service_pb2 as pb

_MAX_FAILURES = 100
_END = 4


class PortabilityCalls(Calls):
    async def ExportMemories(
        self, request: pb.ExportMemoriesRequest, context: Context
    ) -> AsyncIterator[pb.ExportMemoriesResponse]:
        asked = resource_names.parse_bot(request.parent, field="parent")
        bot = access.readable(caller().actor, asked)
        options, format_ = from_proto_export(request)
        place = self._resume_tokens.decode(request) or await self._portability.begin_export(bot, options)
        frame = pb.ExportMemoriesResponse()
        while place.part < _END:
            if self._streams.draining:
                raise Draining
            records, following = await self._portability.read_page(bot, options, place)
            now = self._clock.now()
            messages = [to_proto_record(_of(asked, record), now) for record in records]
            for start in range(0, max(1, len(messages)), MAX_RECORDS):
                some = messages[start : start + MAX_RECORDS]
                done = place.done + start + len(some)
                last = start + MAX_RECORDS >= len(messages)
                # A page that takes several frames is begun again after a cut: importing twice does no harm.
                frame = self._frame(request, following if last else place, some, done, format_)
                if some or following.part == _END:
                    yield frame
            place = following

    def _frame(
        self,
        request: pb.ExportMemoriesRequest,
        place: ExportPlace,
        records: Sequence[pb.MemoryRecord],
        done: int,
        format_: Format,
    ) -> pb.ExportMemoriesResponse:
        return pb.ExportMemoriesResponse(
            records=records if format_ is Format.RECORDS else (),
            lines=[to_line(record) for record in records] if format_ is Format.JSONL else (),
            resume_token="" if place.part == _END else self._resume_tokens.encode(request, place),
            done_count=done,
            total_count=max(place.total, done),
        )

    async def ImportMemories(
        self, request_iterator: AsyncIterator[pb.ImportMemoriesRequest], context: Context
    ) -> pb.ImportMemoriesResponse:
        who = caller().actor
        options: pb.ImportOptions | None = None
        report = pb.ImportMemoriesResponse()
        intake: _Intake | None = None
        async for request in request_iterator:
            if options is None:
                checks.required("options", request.HasField("options"))
                options = request.options
                intake, known = await self._begin_import(options, who)
                if known is not None:
                    return known
            elif request.HasField("options"):
                raise field_invalid("options", "must be in the first frame alone")
            assert intake is not None
            await self._import_frame(request, options, intake, report)
        if options is None or intake is None:
            raise field_invalid("options", "is required")
        report.applied = not options.dry_run
        if not options.dry_run:
            ticket = to_ticket(options, options.request_id, who)
            await self._portability.keep_report(ticket, {"report": report.SerializeToString().hex()})
        return report

    async def _begin_import(
        self, options: pb.ImportOptions, who: str
    ) -> "tuple[_Intake, pb.ImportMemoriesResponse | None]":
        bot = writable_bot(who, options.parent)
        conflict = checks.member("options.conflict", Conflict, options.conflict, Conflict.SKIP)
        reader = RecordReader(bot, by=who, now=self._clock.now(), retention=self._retention)
        known = await self._portability.find_report(to_ticket(options, options.request_id, who))
        report = None if known is None else pb.ImportMemoriesResponse.FromString(bytes.fromhex(known["report"]))
        return _Intake(bot, who, conflict, reader), report

    async def _import_frame(
        self,
        request: pb.ImportMemoriesRequest,
        options: pb.ImportOptions,
        intake: "_Intake",
        report: pb.ImportMemoriesResponse,
    ) -> None:
        records = intake.read(request)
        first = report.read_count + 1
        if options.fail_on_error:
            refusals = [(first + index, each) for index, each in enumerate(records) if isinstance(each, AppError)]
            for number, refusal in refusals[:1]:
                before = records[: number - first]
                await self._take(before, options, intake)
                raise _invalid(number, refusal)
        outcomes = await self._take(records, options, intake)
        for number, outcome in enumerate(outcomes, first):
            if isinstance(outcome, AppError) and options.fail_on_error:
                raise _invalid(number, outcome)
            _count(report, number, outcome)

    async def _take(
        self, records: "Sequence[Record | AppError]", options: pb.ImportOptions, intake: "_Intake"
    ) -> list[ImportOutcome]:
        return await self._portability.take(
            intake.bot,
            records,
            intake.conflict,
            intake.by,
            trusted=access.is_trusted(intake.by),
            dry_run=options.dry_run,
            vectors=self._usable(intake.vectors),
        )

    def _usable(self, vectors: VectorKind | None) -> VectorKind | None:
        """None if no query could be compared with them here."""
        embedder = None if vectors is None else self._recall.embedders.of(vectors.model)
        if vectors is None or embedder is None or embedder.model.dimension != vectors.model.dimension:
            return None
        return VectorKind(embedder.model, vectors.shape)


class _Intake:
    """Reads the frames of one import."""

    def __init__(self, bot: str, by: str, conflict: Conflict, reader: RecordReader) -> None:
        self.bot = bot
        self.by = by
        self.conflict = conflict
        self._reader = reader

    @property
    def vectors(self) -> VectorKind | None:
        """What the vectors of the records are that were read."""
        return self._reader.vectors

    def read(self, request: pb.ImportMemoriesRequest) -> list[Record | AppError]:
        """Each record, or why it cannot be read. Empty lines are skipped."""
        if request.records and request.lines:
            raise field_invalid("lines", "must be empty when records are given")
        checks.at_most("records", request.records, MAX_DRAFTS)
        checks.at_most("lines", request.lines, MAX_DRAFTS)
        if request.ByteSize() > MAX_BATCH_BYTES:
            raise field_invalid("lines" if request.lines else "records", f"must be at most {MAX_BATCH_BYTES} bytes")
        found: list[Record | AppError] = []
        for line in request.lines:
            if line.strip():
                found.append(self._read_line(line))
        found.extend(self._read(record) for record in request.records)
        return found

    def _read_line(self, line: str) -> Record | AppError:
        try:
            return self._read(from_line(line))
        except AppError as refusal:  # of this record, which does not hinder the others
            return refusal

    def _read(self, record: pb.MemoryRecord) -> Record | AppError:
        try:
            return self._reader.read(record)
        except AppError as refusal:
            return refusal


def _of(asked: str, record: Record) -> Record:
    """What another's memory looks like is an empty export of the bot that was asked for."""
    return replace(record, bot=asked) if isinstance(record, Header) else record


def _count(report: pb.ImportMemoriesResponse, number: int, outcome: ImportOutcome) -> None:
    report.read_count += 1
    match outcome:
        case Imported.CREATED:
            report.created_count += 1
        case Imported.UPDATED:
            report.updated_count += 1
        case Imported.UNCHANGED:
            report.unchanged_count += 1
        case Imported.SKIPPED:
            report.skipped_count += 1
        case _:
            report.failed_count += 1
            if len(report.failures) < _MAX_FAILURES:
                report.failures.append(refused_record(number, outcome))


def _invalid(number: int, refusal: AppError) -> ImportRecordInvalid:
    field = refusal.metadata.get("field", "record")
    rule = str(refusal.message).removeprefix(f"{field} ").removeprefix(f"{field}: ")
    return ImportRecordInvalid(field, rule, number)
