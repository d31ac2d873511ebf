"""Operations, both ways."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import grpc

from chassis import resource_names
from chassis.errors import RESOURCE_NAME_INVALID, FieldViolation, InvalidArgument
from memory_service.convert import checks
from memory_service.convert.memories import to_proto_time
from memory_service.domain.embedder import Shape
from memory_service.domain.operation import Operation, OperationFailure, OperationKind, OperationState
from mobot.memory.v1 import memory_pb2, memory_service_pb2, operation_pb2

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}")
_RULE = "must look like bots/{bot}/operations/{operation}"


def parse_operation(name: str) -> tuple[str, str]:
    """The ids of the bot and of the operation."""
    segments = name.split("/")
    form = len(segments) == 4 and segments[0] == "bots" and segments[2] == "operations"
    if not form or not _ID.fullmatch(segments[3]):
        shown = ascii(name[:80])
        raise InvalidArgument(
            f"name: {_RULE} (was {shown})",
            reason=RESOURCE_NAME_INVALID,
            metadata={"field": "name", "value": shown, "rule": _RULE},
            violations=(FieldViolation("name", _RULE),),
        )
    return resource_names.check_bot_id(segments[1], field="name"), segments[3]


def from_proto_operation_filter(
    request: memory_service_pb2.ListOperationsRequest,
) -> tuple[frozenset[OperationKind], frozenset[OperationState]]:
    checks.at_most("kinds", request.kinds, 100)
    checks.at_most("states", request.states, 100)
    kinds = [checks.named(f"kinds[{index}]", OperationKind, each) for index, each in enumerate(request.kinds)]
    states = [checks.named(f"states[{index}]", OperationState, each) for index, each in enumerate(request.states)]
    return frozenset(kinds), frozenset(states)


def from_proto_reindex(request: memory_service_pb2.ReindexNamespaceRequest) -> dict[str, Any]:
    """What the operation is told: an empty embedder is the default of the settings, no shape the one it has."""
    return {
        "embedder": checks.text("embedder", request.embedder, 64),
        "shape": int(checks.named("shape", Shape, request.shape)) if request.shape else 0,
        "include_text": request.include_text,
    }


def to_proto_operation(operation: Operation) -> operation_pb2.Operation:
    message = operation_pb2.Operation(
        name=operation.name,
        kind=operation_pb2.OperationKind.ValueType(operation.kind),
        state=operation_pb2.OperationState.ValueType(operation.state),
        done_count=operation.done_count,
        total_count=operation.total_count,
        phase=operation.phase,
        create_time=to_proto_time(operation.create_time),
        start_time=to_proto_time(operation.start_time),
        update_time=to_proto_time(operation.update_time),
        end_time=to_proto_time(operation.end_time),
        principal=operation.principal,
        attempt_count=operation.attempt_count,
    )
    if operation.error is not None:
        message.error.CopyFrom(_to_proto_failure(operation.error))
    if operation.state is OperationState.SUCCEEDED:
        if operation.kind is OperationKind.ERASE:
            message.erase_certificate.CopyFrom(_to_proto_certificate(operation))
        else:
            message.reindex.CopyFrom(_to_proto_reindex(operation.result))
    return message


def to_proto_embedder(kept: Mapping[str, Any] | None) -> operation_pb2.Embedder | None:
    """Of its description: `name`, `dimension`, `fingerprint` and `model`."""
    if not kept:
        return None
    return operation_pb2.Embedder(
        name=kept["name"], dimension=kept["dimension"], fingerprint=kept["fingerprint"], model=kept.get("model", "")
    )


def _to_proto_failure(failure: OperationFailure) -> memory_pb2.Refusal:
    code: int = grpc.StatusCode[failure.code].value[0]
    return memory_pb2.Refusal(
        code=code, reason=failure.reason, message=failure.message, metadata=dict(failure.metadata)
    )


def _to_proto_certificate(operation: Operation) -> operation_pb2.EraseCertificate:
    result = operation.result
    return operation_pb2.EraseCertificate(
        bot=f"bots/{operation.bot}",
        memory_count=result["memory_count"],
        version_count=result["version_count"],
        block_count=result["block_count"],
        grant_count=result["grant_count"],
        access_count=result["access_count"],
        vector_count=result["vector_count"],
        text_bytes=result["text_bytes"],
        left_count=result["left_count"],
        digest=result["digest"],
        verify_time=to_proto_time(datetime.fromtimestamp(result["verify_time_us"] / 1e6, UTC)),
    )


def _to_proto_reindex(result: Mapping[str, Any]) -> operation_pb2.ReindexResult:
    return operation_pb2.ReindexResult(
        embedded_count=result.get("embedded_count", 0),
        failed_count=result.get("failed_count", 0),
        old_embedder=to_proto_embedder(result.get("old_embedder")),
        new_embedder=to_proto_embedder(result.get("new_embedder")),
    )
