"""Why the registry refuses: one class per reason of its contract. Every value in a message is in its metadata."""

from chassis.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    FieldViolation,
    InvalidArgument,
    NotFound,
    OutOfRange,
    ResourceExhausted,
)


class EtagMismatch(Aborted):
    reason = "ETAG_MISMATCH"

    def __init__(self, name: str, etag: str) -> None:
        super().__init__(f"{name} has changed since etag {etag}; read it again", metadata={"name": name, "etag": etag})


class WatchTokenInvalid(InvalidArgument):
    reason = "WATCH_TOKEN_INVALID"

    def __init__(self, rule: str) -> None:
        super().__init__(
            f"resume_token {rule}",
            metadata={"field": "resume_token"},
            violations=(FieldViolation("resume_token", rule),),
        )


class WatchTokenTooOld(OutOfRange):
    reason = "WATCH_TOKEN_TOO_OLD"

    def __init__(self, oldest: int) -> None:
        super().__init__(
            f"resume_token is older than the oldest revision {oldest}; begin with a snapshot",
            metadata={"field": "resume_token", "oldest_revision": str(oldest)},
        )


class SlowConsumer(ResourceExhausted):
    reason = "SLOW_CONSUMER"

    def __init__(self, queued: int, resume_token: str = "") -> None:
        onward = f"; resume with {resume_token}" if resume_token else ""
        metadata = {"queued": str(queued)}
        if resume_token:
            metadata["resume_token"] = resume_token
        super().__init__(f"{queued} changes wait unread{onward}", metadata=metadata)


class BotNotFound(NotFound):
    reason = "BOT_NOT_FOUND"

    def __init__(self, bot: str) -> None:
        super().__init__(f"there is no bots/{bot}", metadata={"bot": f"bots/{bot}"})


class BotAlreadyExists(AlreadyExists):
    reason = "BOT_ALREADY_EXISTS"

    def __init__(self, bot: str, lifecycle: str, set_name: str = "") -> None:
        metadata = {"bot": f"bots/{bot}", "lifecycle": lifecycle}
        if set_name:
            metadata["set"] = set_name
        shown = f"{lifecycle}, set {set_name}" if set_name else lifecycle
        super().__init__(f"bots/{bot} exists ({shown})", metadata=metadata)


class BotDisabled(FailedPrecondition):
    reason = "BOT_DISABLED"

    def __init__(self, bot: str) -> None:
        super().__init__(f"bots/{bot} is disabled; enable it first", metadata={"bot": f"bots/{bot}"})


class BotDeleted(FailedPrecondition):
    reason = "BOT_DELETED"

    def __init__(self, bot: str, lifecycle: str) -> None:
        super().__init__(
            f"bots/{bot} is {lifecycle}; undelete it first", metadata={"bot": f"bots/{bot}", "lifecycle": lifecycle}
        )


class BotNotDeleted(FailedPrecondition):
    reason = "BOT_NOT_DELETED"

    def __init__(self, bot: str) -> None:
        super().__init__(f"bots/{bot} is not deleted", metadata={"bot": f"bots/{bot}"})


class BotUidMismatch(FailedPrecondition):
    reason = "BOT_UID_MISMATCH"

    def __init__(self, bot: str, expected_uid: str, uid: str) -> None:
        super().__init__(
            f"bots/{bot} has uid {uid}, not {expected_uid}",
            metadata={"bot": f"bots/{bot}", "expected_uid": expected_uid, "uid": uid},
        )


class BotLimitReached(ResourceExhausted):
    reason = "BOT_LIMIT_REACHED"

    def __init__(self, limit: int) -> None:
        sentence = f"the limit of {limit} bots is reached"
        super().__init__(
            f"{sentence}; tombstones count until they are purged",
            metadata={"limit": str(limit)},
            quota=(FieldViolation("bots", sentence),),
        )


class WorkerNotFound(NotFound):
    reason = "WORKER_NOT_FOUND"

    def __init__(self, worker: str) -> None:
        super().__init__(f"there is no workers/{worker}", metadata={"worker": f"workers/{worker}"})


class WorkerVersionUnsupported(FailedPrecondition):
    reason = "WORKER_VERSION_UNSUPPORTED"

    def __init__(self, worker: str, version: int, supported: int) -> None:
        super().__init__(
            f"workers/{worker} speaks version {version}, supported is {supported}",
            metadata={"worker": f"workers/{worker}", "version": str(version), "supported": str(supported)},
        )


class WorkerLeaseLost(FailedPrecondition):
    reason = "WORKER_LEASE_LOST"

    def __init__(self, worker: str) -> None:
        super().__init__(
            f"workers/{worker} holds no lease; it registers again", metadata={"worker": f"workers/{worker}"}
        )
