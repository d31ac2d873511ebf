"""The records of exports and imports, as messages and as lines of JSON."""

import math
from dataclasses import replace
from datetime import datetime, timedelta

import grpc
from google.protobuf import json_format

from chassis import resource_names
from chassis.errors import AppError
from memory_service.convert import checks
from memory_service.convert.blocks import (
    MAX_CHARACTERS,
    MAX_DESCRIPTION,
    to_proto_block,
    to_proto_block_version,
)
from memory_service.convert.grants import check_grant_id, from_proto_grant, parse_grant, to_proto_grant
from memory_service.convert.memories import (
    read_content,
    read_provenance,
    to_proto_memory,
    to_proto_time,
    to_proto_version,
)
from memory_service.convert.names import parse_block, parse_memory
from memory_service.convert.searches import from_proto_embedder, to_proto_embedder
from memory_service.domain.block import DEFAULT_CHARACTERS, Block, BlockContent
from memory_service.domain.embedder import Shape, floats
from memory_service.domain.errors import ImportRecordInvalid
from memory_service.domain.grant import Grant
from memory_service.domain.memory import ChangeKind, Memory, Source
from memory_service.domain.portability import (
    FORMAT_VERSION,
    BlockAtVersion,
    Header,
    MemoryAtVersion,
    MemoryWithVector,
    Record,
    VectorKind,
)
from mobot.memory.v1 import block_pb2, memory_pb2, memory_service_pb2

_MAX_UID = 128
_MAX_VERSION = 1 << 53
_LENGTH_TOLERANCE = 1e-3


def to_proto_record(record: Record, now: datetime) -> memory_service_pb2.MemoryRecord:
    message = memory_service_pb2.MemoryRecord()
    match record:
        case Header():
            message.header.format_version = FORMAT_VERSION
            message.header.bot = f"bots/{record.bot}"
            time = to_proto_time(record.export_time)
            if time is not None:
                message.header.export_time.CopyFrom(time)
            if record.vectors is not None:
                embedder = to_proto_embedder(record.vectors.model)
                shape = memory_service_pb2.RetrievalShape.ValueType(record.vectors.shape)
                message.header.MergeFrom(memory_service_pb2.ExportHeader(embedder=embedder, shape=shape))
        case MemoryWithVector():
            message.memory.CopyFrom(to_proto_memory(record.memory))
            message.vector = record.vector
        case Memory():
            message.memory.CopyFrom(to_proto_memory(record))
        case MemoryAtVersion():
            message.memory_version.CopyFrom(to_proto_version(record.memory))
        case Block():
            message.block.CopyFrom(to_proto_block(record))
        case BlockAtVersion():
            message.block_version.CopyFrom(to_proto_block_version(record.block))
        case Grant():
            message.grant.CopyFrom(to_proto_grant(record, now))
    return message


def to_line(message: memory_service_pb2.MemoryRecord) -> str:
    return json_format.MessageToJson(message, indent=None, ensure_ascii=False)


def from_line(line: str) -> memory_service_pb2.MemoryRecord:
    """Raises: ImportRecordInvalid."""
    try:
        return json_format.Parse(line, memory_service_pb2.MemoryRecord())
    except (json_format.Error, ValueError, RecursionError):
        # What the parser says repeats the line; what a line holds does not belong in errors and logs.
        raise ImportRecordInvalid("line", "is not the ProtoJSON of a MemoryRecord") from None


class RecordReader:
    """Reads records for the namespace of one bot. `by` is who imports; `retention` is for deleted memories.

    `vectors` is what the header says of the vectors that follow; those of an export without one are left out.
    """

    def __init__(self, bot: str, *, by: str, now: datetime, retention: timedelta) -> None:
        self._bot = bot
        self._by = by
        self._now = now
        self._retention = retention
        self.vectors: VectorKind | None = None

    def read(self, message: memory_service_pb2.MemoryRecord) -> Record:
        """Raises: AppError, of the field that breaks a rule."""
        match message.WhichOneof("record"):
            case "header":
                return self._header(message.header)
            case "memory":
                memory = self._memory("memory", message.memory)
                if self.vectors is None or not message.vector:
                    return memory
                return MemoryWithVector(memory, _vector(message.vector, self.vectors.model.dimension))
            case "memory_version":
                return self._memory_version(message.memory_version)
            case "block":
                return self._block("block", message.block)
            case "block_version":
                return self._block_version(message.block_version)
            case "grant":
                name = message.grant.name
                grant_id = check_grant_id(parse_grant(name, "grant.name")[1])
                return self._grant(grant_id, message)
            case _:
                raise ImportRecordInvalid("record", "is of no known kind")

    def _header(self, header: memory_service_pb2.ExportHeader) -> Header:
        if header.format_version != FORMAT_VERSION:
            raise ImportRecordInvalid(
                "header.format_version", f"must be {FORMAT_VERSION} (was {header.format_version})"
            )
        bot = resource_names.parse_bot(header.bot, field="header.bot")
        if header.HasField("embedder"):
            self.vectors = VectorKind(
                from_proto_embedder("header.embedder", header.embedder),
                checks.member("header.shape", Shape, header.shape, Shape.NOTES),
            )
        return Header(bot, self._now, self.vectors)

    def _memory(self, field: str, memory: memory_pb2.Memory) -> Memory:
        deleted = checks.time(f"{field}.delete_time", memory, "delete_time")
        purge = checks.time(f"{field}.purge_time", memory, "purge_time")
        created = checks.time(f"{field}.create_time", memory, "create_time") or self._now
        provenance = read_provenance(
            f"{field}.provenance", memory.provenance, memory.provenance.principal or self._by, default=Source.IMPORT
        )
        checks.text(f"{field}.provenance.principal", memory.provenance.principal, 512)
        return Memory(
            bot=self._bot,
            id=parse_memory(memory.name, f"{field}.name").id,
            uid=checks.text(f"{field}.uid", memory.uid, _MAX_UID, minimum=1),
            content=read_content(field, memory),
            provenance=provenance,
            create_time=created,
            update_time=checks.time(f"{field}.update_time", memory, "update_time") or created,
            version=checks.between(f"{field}.version", memory.version, 1, _MAX_VERSION),
            change=ChangeKind.IMPORT,
            changed_by=self._by,
            delete_time=deleted,
            purge_time=None if deleted is None else purge or self._now + self._retention,
            use_count=checks.between(f"{field}.use_count", memory.use_count, 0, _MAX_VERSION),
            use_time=checks.time(f"{field}.use_time", memory, "use_time"),
        )

    def _memory_version(self, version: memory_pb2.MemoryVersion) -> MemoryAtVersion:
        memory = self._memory("memory_version.memory", version.memory)
        return MemoryAtVersion(
            replace(
                memory,
                change=checks.named("memory_version.change", ChangeKind, version.change),
                changed_by=checks.text("memory_version.principal", version.principal, 512),
            )
        )

    def _block(self, field: str, block: block_pb2.Block) -> Block:
        checks.no_nul(f"{field}.text", block.text)
        created = checks.time(f"{field}.create_time", block, "create_time") or self._now
        return Block(
            bot=self._bot,
            id=parse_block(block.name, f"{field}.name")[1],
            uid=checks.text(f"{field}.uid", block.uid, _MAX_UID, minimum=1),
            content=BlockContent(
                text=block.text,
                description=checks.text(f"{field}.description", block.description, MAX_DESCRIPTION),
                max_characters=checks.between(f"{field}.max_characters", block.max_characters, 0, MAX_CHARACTERS)
                or DEFAULT_CHARACTERS,
                read_only=block.read_only,
                order=block.order,
            ),
            create_time=created,
            update_time=checks.time(f"{field}.update_time", block, "update_time") or created,
            version=checks.between(f"{field}.version", block.version, 1, _MAX_VERSION),
            change=ChangeKind.IMPORT,
            principal=checks.text(f"{field}.principal", block.principal, 512) or self._by,
        )

    def _block_version(self, version: block_pb2.BlockVersion) -> BlockAtVersion:
        block = self._block("block_version.block", version.block)
        return BlockAtVersion(
            replace(
                block,
                change=checks.named("block_version.change", ChangeKind, version.change),
                principal=checks.text("block_version.principal", version.principal, 512),
            )
        )

    def _grant(self, grant_id: str, message: memory_service_pb2.MemoryRecord) -> Grant:
        made = message.grant
        grant = from_proto_grant(
            self._bot, made, grant_id, principal=made.principal or self._by, now=self._now, imported=True
        )
        created = checks.time("grant.create_time", made, "create_time") or self._now
        return replace(grant, create_time=created, revoke_time=checks.time("grant.revoke_time", made, "revoke_time"))


def _vector(given: bytes, dimension: int) -> bytes:
    if len(given) != 4 * dimension:
        raise ImportRecordInvalid("vector", f"must be {dimension} floats of 4 bytes (was {len(given)} bytes)")
    length = math.sqrt(sum(number * number for number in floats(given)))
    # A comparison with NaN is false: what is no number is refused with the rest.
    if not abs(length - 1) <= _LENGTH_TOLERANCE:
        raise ImportRecordInvalid("vector", "must be of length 1")
    return given


def refused_record(number: int, refusal: AppError) -> memory_service_pb2.ImportFailure:
    code: int = grpc.StatusCode[refusal.code].value[0]
    metadata = {**refusal.metadata, "record": str(number)}
    return memory_service_pb2.ImportFailure(
        record_number=number,
        refusal=memory_pb2.Refusal(code=code, reason=refusal.reason, message=str(refusal.message), metadata=metadata),
    )
