"""What the router refuses, and why."""

from chassis import errors
from router_service.domain.limits import MAX_HOPS
from router_service.domain.state import MessageState


class MessageNotFound(errors.NotFound):
    reason = "MESSAGE_NOT_FOUND"

    def __init__(self, what: str) -> None:
        super().__init__(f"there is no message or run {what!r}", metadata={"message": what})


class IdempotencyKeyReused(errors.InvalidArgument):
    reason = "IDEMPOTENCY_KEY_REUSED"

    def __init__(self, key: str, message: str) -> None:
        super().__init__(
            f"idempotency_key {key!r} was used before for other content; use a new key for a new message",
            metadata={"idempotency_key": key, "message": f"messages/{message}"},
            violations=(errors.FieldViolation("message.idempotency_key", "must be new for new content"),),
        )


class BotNotFound(errors.NotFound):
    reason = "BOT_NOT_FOUND"

    def __init__(self, bot: str) -> None:
        super().__init__(f"there is no bot {bot}", metadata={"bot": bot})


class BotDeleted(errors.FailedPrecondition):
    reason = "BOT_DELETED"

    def __init__(self, bot: str) -> None:
        super().__init__(f"{bot} is being deleted and takes no more mail", metadata={"bot": bot})


class TopicNotFound(errors.NotFound):
    reason = "TOPIC_NOT_FOUND"

    def __init__(self, topic: str) -> None:
        super().__init__(f"there is no topic {topic!r}", metadata={"topic": topic})


class TopicAlreadyExists(errors.AlreadyExists):
    reason = "TOPIC_ALREADY_EXISTS"

    def __init__(self, topic: str) -> None:
        super().__init__(f"topics/{topic} exists already", metadata={"topic": f"topics/{topic}"})


class TopicFull(errors.ResourceExhausted):
    reason = "TOPIC_FULL"

    def __init__(self, topic: str, limit: int) -> None:
        super().__init__(
            f"topics/{topic} has {limit} subscribers, which is the most it takes",
            metadata={"topic": f"topics/{topic}", "limit": str(limit)},
        )


class ScheduleNotFound(errors.NotFound):
    reason = "SCHEDULE_NOT_FOUND"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no schedule {name!r}", metadata={"schedule": name})


class ScheduleAlreadyExists(errors.AlreadyExists):
    reason = "SCHEDULE_ALREADY_EXISTS"

    def __init__(self, schedule: str) -> None:
        super().__init__(f"schedules/{schedule} exists already", metadata={"schedule": f"schedules/{schedule}"})


class EtagMismatch(errors.Aborted):
    reason = "ETAG_MISMATCH"

    def __init__(self, etag: str) -> None:
        super().__init__(f"it has changed since etag {etag!r}; read it again", metadata={"etag": etag})


class PolicyDenied(errors.PermissionDenied):
    reason = "POLICY_DENIED"

    def __init__(self, actor: str, target: str, action: str, detail: str) -> None:
        super().__init__(
            f"{actor} may not {action} {target}: {detail}",
            metadata={"actor": actor, "target": target, "action": action, "detail": detail},
        )


class SessionAlreadyExists(errors.FailedPrecondition):
    reason = "SESSION_ALREADY_EXISTS"

    def __init__(self, session: str) -> None:
        super().__init__(f"{session} exists; spawn with USE_EXISTING to go on with it", metadata={"session": session})


class SessionPersistent(errors.FailedPrecondition):
    reason = "SESSION_PERSISTENT"

    def __init__(self, session: str) -> None:
        super().__init__(f"{session} is persistent and is not replaced", metadata={"session": session})


class SessionRefused(errors.FailedPrecondition):
    reason = "SESSION_REFUSED"

    def __init__(self, session: str, refusal: str, message: str) -> None:
        super().__init__(message, metadata={"session": session, "refusal": refusal})


class SpawnLimitReached(errors.ResourceExhausted):
    reason = "SPAWN_LIMIT_REACHED"

    def __init__(self, what: str, limit: int) -> None:
        explanation = {
            "depth": f"at most {limit} generations of children",
            "fan_out": f"at most {limit} children of a session at work at once",
        }[what]
        super().__init__(
            explanation, metadata={"limit": str(limit), "what": what}, retry_after_s=None if what == "depth" else 5.0
        )


class RequestIdReused(errors.InvalidArgument):
    reason = errors.REQUEST_ID_REUSED

    def __init__(self, request_id: str) -> None:
        super().__init__(
            f"request_id {request_id!r} was used before for a request with other content",
            metadata={"field": "request_id", "requestId": request_id},
            violations=(errors.FieldViolation("request_id", "must be new for a new request"),),
        )


class WatchTokenInvalid(errors.InvalidArgument):
    reason = "WATCH_TOKEN_INVALID"

    def __init__(self) -> None:
        super().__init__(
            "resume_token is damaged or belongs to another watch; watch without one",
            metadata={"field": "resume_token"},
            violations=(errors.FieldViolation("resume_token", "must be the token of a watch with the same filter"),),
        )


class SlowConsumer(errors.ResourceExhausted):
    reason = "SLOW_CONSUMER"

    def __init__(self, queued: int) -> None:
        super().__init__(
            "the watch was read too slowly; go on with its last token",
            metadata={"queued": str(queued)},
            retry_after_s=1.0,
        )


class SessionBusy(errors.FailedPrecondition):
    reason = "SESSION_BUSY"

    def __init__(self, session: str, run: str) -> None:
        super().__init__(
            f"{session} is working; send with another mode to have the message wait",
            metadata={"session": session, "run": run},
        )


class MailboxFull(errors.ResourceExhausted):
    reason = "MAILBOX_FULL"

    def __init__(self, session: str, limit: int) -> None:
        super().__init__(
            f"{limit} messages wait for {session}, which is the most it takes; nothing was accepted",
            metadata={"session": session, "limit": str(limit)},
            retry_after_s=1.0,
            quota=(errors.FieldViolation(session, f"at most {limit} waiting messages"),),
        )


class HopLimitReached(errors.FailedPrecondition):
    reason = "HOP_LIMIT_REACHED"

    def __init__(self, hops: int) -> None:
        super().__init__(
            f"the message went through {hops} hands, which looks like a loop",
            metadata={"limit": str(MAX_HOPS), "hop_count": str(hops)},
        )


class LeaseLost(errors.Aborted):
    reason = "LEASE_LOST"

    def __init__(self, run: str, epoch: int) -> None:
        super().__init__(
            f"the lease of run {run!r} with epoch {epoch} is over; stop working on it",
            metadata={"run": run, "epoch": str(epoch)},
        )


class RunEnded(errors.FailedPrecondition):
    reason = "RUN_ENDED"

    def __init__(self, run: str, state: MessageState) -> None:
        super().__init__(f"run {run!r} has ended: {state.name}", metadata={"run": run, "state": state.name})


class HelloRequired(errors.FailedPrecondition):
    reason = "HELLO_REQUIRED"

    def __init__(self) -> None:
        super().__init__("the first frame of an Attach stream must be a hello, and only the first")


class WorkerReplaced(errors.FailedPrecondition):
    reason = "WORKER_REPLACED"

    def __init__(self, worker: str) -> None:
        super().__init__(f"another stream of {worker} was attached later", metadata={"worker": worker})


class NotDeadLettered(errors.FailedPrecondition):
    reason = "NOT_DEAD_LETTERED"

    def __init__(self, message: str) -> None:
        super().__init__(f"messages/{message} is not a dead letter", metadata={"message": f"messages/{message}"})


class ReplyTimeout(errors.DeadlineExceeded):
    reason = "REPLY_TIMEOUT"

    def __init__(self, run: str) -> None:
        super().__init__(
            f"run {run!r} has not ended in time; a late reply goes to the mailbox of reply_to", metadata={"run": run}
        )


class CallerNotAllowed(errors.PermissionDenied):
    reason = errors.CALLER_NOT_ALLOWED


class TurnLimitReached(errors.FailedPrecondition):
    reason = "TURN_LIMIT_REACHED"

    def __init__(self, turns: int, limit: int) -> None:
        super().__init__(
            f"these two sessions answered each other {limit} times in this exchange, which is the most they may",
            metadata={"limit": str(limit), "turn_count": str(turns)},
        )


class BacklogFull(errors.ResourceExhausted):
    reason = "BACKLOG_FULL"

    def __init__(self, bot: str, limit: int) -> None:
        super().__init__(
            f"{limit} messages wait for {bot}, which is the most it takes; nothing was accepted",
            metadata={"bot": bot, "limit": str(limit)},
            retry_after_s=5.0,
            quota=(errors.FieldViolation(bot, f"at most {limit} waiting messages"),),
        )


class StepsFull(errors.ResourceExhausted):
    reason = "STEPS_FULL"

    def __init__(self, run: str, limit: int) -> None:
        super().__init__(
            f"run {run!r} remembers as many steps as it may: {limit}, of together 16 MiB",
            metadata={"run": run, "limit": str(limit)},
        )


class NoDecisionPending(errors.FailedPrecondition):
    reason = "NO_DECISION_PENDING"

    def __init__(self, run: str) -> None:
        super().__init__(f"run {run!r} waits for no decision", metadata={"run": run})
