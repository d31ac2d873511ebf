"""Refusals of the session service, one class for each reason of its contract."""

from chassis import errors


class SessionNotFound(errors.NotFound):
    reason = "SESSION_NOT_FOUND"

    def __init__(self, session: str) -> None:
        super().__init__(f"there is no session {session!r}", metadata={"session": session})


class SessionAlreadyExists(errors.AlreadyExists):
    reason = "SESSION_ALREADY_EXISTS"

    def __init__(self, session: str) -> None:
        super().__init__(
            f"session {session} exists; use it, replace it, or choose another id", metadata={"session": session}
        )


class SessionPersistent(errors.FailedPrecondition):
    """The guard: a persistent session keeps its context."""

    reason = "SESSION_PERSISTENT"

    def __init__(self, session: str, label: str) -> None:
        super().__init__(
            f"session {session} ({label!r}) is persistent and cannot be reset; "
            "fork it, start another one, or switch persistent off first",
            metadata={"session": session, "label": label},
        )


class SessionIsMain(errors.FailedPrecondition):
    reason = "SESSION_IS_MAIN"

    def __init__(self, session: str, what: str) -> None:
        """`what` was to be done to it: "deleted", "archived" or "reset"."""
        super().__init__(
            f"session {session} is its bot's main session and is not {what}",
            metadata={"session": session, "action": what},
        )


class ConfirmationRequired(errors.FailedPrecondition):
    reason = "CONFIRMATION_REQUIRED"

    def __init__(self, session: str) -> None:
        super().__init__(
            f"session {session} is persistent; confirm its deletion by its uid in expected_uid",
            metadata={"session": session, "field": "expected_uid"},
        )


class TranscriptNotFound(errors.NotFound):
    reason = "TRANSCRIPT_NOT_FOUND"

    def __init__(self, session: str, uid: str) -> None:
        super().__init__(f"session {session} has no transcript {uid!r}", metadata={"session": session, "uid": uid})


class SessionCapReached(errors.ResourceExhausted):
    """Nothing is evicted to make room."""

    reason = "SESSION_CAP_REACHED"

    def __init__(self, owner: str, limit: int) -> None:
        message = f"{owner} has {limit} named sessions, which is the most; archive or delete one first"
        super().__init__(
            message,
            metadata={"owner": owner, "limit": str(limit)},
            quota=(errors.FieldViolation(f"named sessions of {owner}", message),),
        )


class NamedSessionsDisabled(errors.FailedPrecondition):
    reason = "NAMED_SESSIONS_DISABLED"

    def __init__(self, session: str) -> None:
        super().__init__(
            f"named sessions are switched off (MOBOT_SESSION_NAMED_SESSIONS_ENABLED), so {session} gets no label; "
            "sessions that have one keep it",
            metadata={"session": session},
        )


class SessionChanged(errors.Aborted):
    reason = "SESSION_CHANGED"

    def __init__(self, session: str, *, expected_uid: str, uid: str) -> None:
        super().__init__(
            f"session {session} was reset since it was read: its transcript is {uid}, not {expected_uid}",
            metadata={"session": session, "expected_uid": expected_uid, "uid": uid},
        )


class EtagMismatch(errors.Aborted):
    reason = "ETAG_MISMATCH"

    def __init__(self, session: str, *, given: str, etag: str) -> None:
        super().__init__(
            f"session {session} was changed since it was read: its etag is {etag}, not {given}; read it again",
            metadata={"session": session, "given": given, "etag": etag},
        )


class SessionDeleted(errors.FailedPrecondition):
    reason = "SESSION_DELETED"

    def __init__(self, session: str) -> None:
        super().__init__(f"session {session} is deleted; undelete it first", metadata={"session": session})


class SessionNotDeleted(errors.FailedPrecondition):
    """Purging is for what was deleted before."""

    reason = "SESSION_NOT_DELETED"

    def __init__(self, session: str) -> None:
        super().__init__(
            f"session {session} is not deleted; only deleted sessions are purged", metadata={"session": session}
        )


class SessionArchived(errors.FailedPrecondition):
    reason = "SESSION_ARCHIVED"

    def __init__(self, session: str) -> None:
        super().__init__(f"session {session} is archived; unarchive it first", metadata={"session": session})


class SessionAmbiguous(errors.InvalidArgument):
    reason = "SESSION_AMBIGUOUS"

    def __init__(self, reference: str, matches: int) -> None:
        super().__init__(
            f"{reference!r} fits {matches} sessions; name the bot or use a longer reference",
            metadata={"reference": reference, "matches": str(matches)},
        )


class LabelInUse(errors.AlreadyExists):
    reason = "LABEL_IN_USE"

    def __init__(self, label: str, session: str) -> None:
        super().__init__(f"label {label!r} belongs to session {session}", metadata={"label": label, "session": session})


class LabelRequired(errors.FailedPrecondition):
    reason = "LABEL_REQUIRED"

    def __init__(self, session: str) -> None:
        super().__init__(f"session {session} cannot be persistent without a label", metadata={"session": session})


class LabelConfusable(errors.InvalidArgument):
    reason = "LABEL_CONFUSABLE"

    def __init__(self, label: str, character: str, rule: str, *, session: str = "") -> None:
        """`session` is the one with the label that looks the same."""
        metadata = {"field": "session.label", "label": label}
        if character:
            metadata["code_point"] = f"U+{ord(character):04X}"
        if session:
            metadata["session"] = session
        super().__init__(
            f"session.label {rule}", metadata=metadata, violations=(errors.FieldViolation("session.label", rule),)
        )


class Fenced(errors.Aborted):
    """A newer lease writes to the session."""

    reason = "FENCED"

    def __init__(self, session: str, *, epoch: int, mark: int) -> None:
        super().__init__(
            f"epoch {epoch} is behind {mark}: a newer lease writes to {session}; stop working",
            metadata={"session": session, "epoch": str(epoch), "mark": str(mark)},
        )


class EventIdReused(errors.InvalidArgument):
    reason = "EVENT_ID_REUSED"

    def __init__(self, event_id: str) -> None:
        super().__init__(
            f"event id {event_id!r} belongs to an event of another kind or run", metadata={"event_id": event_id}
        )


class EventNotFound(errors.NotFound):
    reason = "EVENT_NOT_FOUND"

    def __init__(self, session: str, **which: str) -> None:
        super().__init__(
            f"session {session} has no event {next(iter(which.values()))!r}", metadata={"session": session, **which}
        )


class BotNotFound(errors.NotFound):
    reason = "BOT_NOT_FOUND"

    def __init__(self, bot: str) -> None:
        super().__init__(f"the registry knows no bot {bot}", metadata={"bot": bot})


class TemplateNotFound(errors.NotFound):
    reason = "TEMPLATE_NOT_FOUND"

    def __init__(self, template: str) -> None:
        super().__init__(f"there is no template {template!r}", metadata={"template": template})


class TemplateAlreadyExists(errors.AlreadyExists):
    reason = "TEMPLATE_ALREADY_EXISTS"

    def __init__(self, template: str) -> None:
        super().__init__(f"template {template} exists", metadata={"template": template})


class WatchTokenInvalid(errors.InvalidArgument):
    reason = "WATCH_TOKEN_INVALID"

    def __init__(self, rule: str) -> None:
        super().__init__(
            f"resume_token {rule}",
            metadata={"field": "resume_token"},
            violations=(errors.FieldViolation("resume_token", rule),),
        )


class SlowConsumer(errors.ResourceExhausted):
    reason = "SLOW_CONSUMER"

    def __init__(self, queued: int) -> None:
        super().__init__(
            f"the watcher is {queued} events behind and reads too slowly; resume with the last token",
            metadata={"queued": str(queued)},
            retry_after_s=1.0,
        )
