"""Refusals of what leads out of the service and into it: imports, share links."""

from chassis import errors


class ImportUnreadable(errors.InvalidArgument):
    """The bytes are not what they say, as a whole. Single bad lines are reported instead."""

    reason = "IMPORT_UNREADABLE"

    def __init__(self, rule: str, **where: str) -> None:
        super().__init__(f"the import cannot be read: {rule}", metadata=where)


class ImportTooLarge(errors.ResourceExhausted):
    reason = "IMPORT_TOO_LARGE"

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(f"{what} is larger than the {limit} bytes that are taken", metadata={"limit": str(limit)})


class ImportUnsafe(errors.InvalidArgument):
    """A packed import that would reach out of itself."""

    reason = "IMPORT_UNSAFE"

    def __init__(self, path: str, rule: str) -> None:
        shown = ascii(path[:200])
        super().__init__(f"the import holds {shown}, {rule}", metadata={"path": shown})


class SessionOfAnother(errors.AlreadyExists):
    """An import never overwrites. Nothing of it was written."""

    reason = "SESSION_ALREADY_EXISTS"

    def __init__(self, session: str) -> None:
        super().__init__(
            f"session {session} exists and is another one; nothing was imported: have such sessions left alone "
            "(policy USE_EXISTING, --skip-existing), or import into another bot",
            metadata={"session": session},
        )


class OperatorsOnly(errors.PermissionDenied):
    reason = "CALLER_NOT_ALLOWED"

    def __init__(self, actor: str) -> None:
        super().__init__(f"{actor} may not import; operators may", metadata={"actor": actor})


class ShareLinkNotFound(errors.NotFound):
    """Missing, revoked, expired and forbidden look alike."""

    reason = "SHARE_LINK_NOT_FOUND"

    def __init__(self, link: str) -> None:
        super().__init__("there is no such share link", metadata={"link": link})


class SessionBusy(errors.FailedPrecondition):
    """A run is at work, and what is asked for would come into the middle of its turn."""

    reason = "SESSION_BUSY"

    def __init__(self, session: str, run: str) -> None:
        super().__init__(
            f"session {session} is at work on run {run}; wait for its end, or cancel it",
            metadata={"session": session, "run": run},
        )
