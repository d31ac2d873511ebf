"""Why the memory refuses: one class per reason of its contract. Every value in a message is in its metadata."""

from chassis.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    FieldViolation,
    Internal,
    InvalidArgument,
    NotFound,
    OutOfRange,
    ResourceExhausted,
    Unavailable,
)


class EtagMismatch(Aborted):
    reason = "ETAG_MISMATCH"

    def __init__(self, name: str, etag: str) -> None:
        since = f"since etag {etag}" if etag else "and is not new"
        super().__init__(f"{name} has changed {since}; read it again", metadata={"name": name, "etag": etag})


class MemoryNotFound(NotFound):
    """`name` is a memory, or the namespace of a bot that the caller may not write to."""

    reason = "MEMORY_NOT_FOUND"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no {name}", metadata={"memory": name})


class MemoryAlreadyExists(AlreadyExists):
    reason = "MEMORY_ALREADY_EXISTS"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} exists; choose another memory_id", metadata={"memory": name})


class MemoryTextTooLong(InvalidArgument):
    reason = "MEMORY_TEXT_TOO_LONG"

    def __init__(self, field: str, size_bytes: int, limit_bytes: int) -> None:
        rule = f"has {size_bytes} bytes, the limit is {limit_bytes}"
        super().__init__(
            f"{field} {rule}",
            metadata={"field": field, "size_bytes": str(size_bytes), "limit_bytes": str(limit_bytes)},
            violations=(FieldViolation(field, rule),),
        )


class MemoryMetadataTooLarge(InvalidArgument):
    """Too many bytes as JSON, or too many levels."""

    reason = "MEMORY_METADATA_TOO_LARGE"

    def __init__(self, field: str, unit: str, size: int, limit: int) -> None:
        rule = f"has {size} {unit}, the limit is {limit}"
        super().__init__(
            f"{field} {rule}",
            metadata={"field": field, f"size_{unit}": str(size), f"limit_{unit}": str(limit)},
            violations=(FieldViolation(field, rule),),
        )


class MemoryDuplicate(AlreadyExists):
    reason = "MEMORY_DUPLICATE"

    def __init__(self, name: str) -> None:
        super().__init__(f"the text is already {name}", metadata={"memory": name})


class MemoryDeleted(FailedPrecondition):
    reason = "MEMORY_DELETED"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is deleted; undelete it first", metadata={"memory": name})


class MemoryNotDeleted(FailedPrecondition):
    reason = "MEMORY_NOT_DELETED"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is not deleted", metadata={"memory": name})


class VersionNotFound(NotFound):
    reason = "MEMORY_VERSION_NOT_FOUND"

    def __init__(self, name: str, version: int) -> None:
        super().__init__(f"{name} has no version {version}", metadata={"name": name, "version": str(version)})


class MemoryLimitReached(ResourceExhausted):
    reason = "MEMORY_LIMIT_REACHED"

    def __init__(self, bot: str, limit: int) -> None:
        sentence = f"bots/{bot} has reached its limit of {limit} memories"
        super().__init__(
            f"{sentence}; deleted ones count until they are purged",
            metadata={"bot": f"bots/{bot}", "limit": str(limit)},
            quota=(FieldViolation(f"bots/{bot}", sentence),),
        )


class FilterInvalid(InvalidArgument):
    reason = "FILTER_INVALID"

    def __init__(self, field: str, rule: str, value: str) -> None:
        super().__init__(
            f"{field}: {rule} (was {value})",
            metadata={"field": field, "value": value},
            violations=(FieldViolation(field, rule),),
        )


class QueryEmpty(InvalidArgument):
    reason = "QUERY_EMPTY"

    def __init__(self, mode: str) -> None:
        rule = f"is required in mode {mode}"
        super().__init__(
            f"query {rule}", metadata={"field": "query", "mode": mode}, violations=(FieldViolation("query", rule),)
        )


class EmbedderUnavailable(Unavailable):
    reason = "EMBEDDER_UNAVAILABLE"

    def __init__(self, mode: str) -> None:
        super().__init__(
            f"mode {mode} needs vectors and no embedder is configured; search in mode TEXT or HYBRID",
            metadata={"embedder": "", "mode": mode},
        )


class BlockNotFound(NotFound):
    reason = "BLOCK_NOT_FOUND"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no {name}", metadata={"block": name})


class BlockReadOnly(FailedPrecondition):
    reason = "BLOCK_READ_ONLY"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is read-only; an operator may change it", metadata={"block": name})


class BlockTextTooLong(InvalidArgument):
    reason = "BLOCK_TEXT_TOO_LONG"

    def __init__(self, name: str, characters: int, limit: int) -> None:
        rule = f"holds {limit} characters, not {characters}"
        super().__init__(
            f"{name} {rule}",
            metadata={"block": name, "characters": str(characters), "limit": str(limit)},
            violations=(FieldViolation("block.text", rule),),
        )


class BlockLimitReached(ResourceExhausted):
    reason = "BLOCK_LIMIT_REACHED"

    def __init__(self, bot: str, limit: int) -> None:
        sentence = f"bots/{bot} has reached its limit of {limit} blocks"
        super().__init__(
            sentence,
            metadata={"bot": f"bots/{bot}", "limit": str(limit)},
            quota=(FieldViolation(f"bots/{bot}", sentence),),
        )


class OperationNotFound(NotFound):
    reason = "OPERATION_NOT_FOUND"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no {name}", metadata={"operation": name})


class OperationInProgress(FailedPrecondition):
    reason = "OPERATION_IN_PROGRESS"

    def __init__(self, name: str, kind: str) -> None:
        super().__init__(f"{name} ({kind}) is in progress", metadata={"operation": name, "kind": kind})


class OperationNotCancellable(FailedPrecondition):
    reason = "OPERATION_NOT_CANCELLABLE"

    def __init__(self, name: str, state: str) -> None:
        super().__init__(f"{name} is {state}", metadata={"operation": name, "state": state})


class OperationStopped(Aborted):
    """Told to a worker, never to a caller: the operation was cancelled or taken over, so nothing more may be done."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is no longer this process's to work on", metadata={"operation": name})


class NamespaceErasing(FailedPrecondition):
    reason = "NAMESPACE_ERASING"

    def __init__(self, bot: str, operation: str) -> None:
        super().__init__(
            f"bots/{bot} is being erased by {operation}; nothing is written until that has ended",
            metadata={"bot": f"bots/{bot}", "operation": operation},
        )


class GrantNotFound(NotFound):
    reason = "GRANT_NOT_FOUND"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no {name}", metadata={"grant": name})


class GrantEnded(FailedPrecondition):
    reason = "GRANT_ENDED"

    def __init__(self, name: str, state: str) -> None:
        super().__init__(f"{name} is {state}", metadata={"grant": name, "state": state})


class GrantAlreadyExists(AlreadyExists):
    reason = "GRANT_ALREADY_EXISTS"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} exists; choose another grant_id", metadata={"grant": name})


class EraseNotConfirmed(InvalidArgument):
    reason = "ERASE_NOT_CONFIRMED"

    def __init__(self, bot: str) -> None:
        rule = f"must be {bot}"
        super().__init__(
            f"confirm {rule}",
            metadata={"field": "confirm", "bot": bot},
            violations=(FieldViolation("confirm", rule),),
        )


class EraseIncomplete(Internal):
    """Rows, postings or vectors were left each time an erasure looked for them."""

    reason = "INTERNAL_ERROR"

    def __init__(self, bot: str, left: int) -> None:
        super().__init__(f"bots/{bot}: {left} rows are left after the erasure", metadata={"left": str(left)})


class ImportRecordInvalid(InvalidArgument):
    """`record` is the number in the stream, from 1; 0 where it is not known yet."""

    reason = "IMPORT_RECORD_INVALID"

    def __init__(self, field: str, rule: str, record: int = 0) -> None:
        super().__init__(
            f"record {record}: {field} {rule}" if record else f"{field} {rule}",
            metadata={"record": str(record), "field": field},
            violations=(FieldViolation(field, rule),),
        )


class ResumeTokenInvalid(InvalidArgument):
    reason = "WATCH_TOKEN_INVALID"

    def __init__(self) -> None:
        super().__init__(
            "resume_token was not made by this export; begin again without one", metadata={"field": "resume_token"}
        )


class ResumeTokenTooOld(OutOfRange):
    reason = "WATCH_TOKEN_TOO_OLD"

    def __init__(self) -> None:
        super().__init__("resume_token is too old; begin the export again", metadata={"field": "resume_token"})
