"""Why a search or an embedding is refused: what vectors need and do not have."""

from chassis.errors import FailedPrecondition, FieldViolation, InvalidArgument, Unavailable

_RETRY_AFTER_S = 1.0


class EmbedderUnavailable(Unavailable):
    """It gives no vectors now; another try may do."""

    reason = "EMBEDDER_UNAVAILABLE"

    def __init__(self, embedder: str, why: str) -> None:
        super().__init__(f"embedder {embedder}: {why}", metadata={"embedder": embedder}, retry_after_s=_RETRY_AFTER_S)
        self.why = why


class EmbedderRefused(InvalidArgument):
    """It will not take one of the texts, however often it is asked. It never leaves the service."""

    def __init__(self, embedder: str, why: str) -> None:
        super().__init__(f"embedder {embedder}: {why}", metadata={"embedder": embedder})
        self.why = why


class EmbedderMismatch(FailedPrecondition):
    reason = "EMBEDDER_MISMATCH"

    def __init__(self, bot: str, stored: str, configured: str) -> None:
        super().__init__(
            f"bots/{bot} has vectors of {stored}, not {configured}; re-index it",
            metadata={"bot": f"bots/{bot}", "stored": stored, "configured": configured},
        )


class EmbedderUnknown(InvalidArgument):
    reason = "EMBEDDER_UNKNOWN"

    def __init__(self, value: str, known: tuple[str, ...]) -> None:
        rule = f"must be one of {', '.join(known) or 'none, for there is no embedder'}"
        super().__init__(
            f"embedder: {value!a} is not configured; it {rule}",
            metadata={"field": "embedder", "value": value},
            violations=(FieldViolation("embedder", rule),),
        )


class VectorPending(FailedPrecondition):
    reason = "VECTOR_PENDING"

    def __init__(self, memory: str) -> None:
        super().__init__(f"{memory} has no vector yet", metadata={"memory": memory}, retry_after_s=_RETRY_AFTER_S)
