"""The refusal of one item of a batch."""

from chassis.errors import AppError
from chassis.status import to_grpc_code
from mobot.session.v1 import session_service_pb2


def to_proto_refusal(name: str, error: AppError) -> session_service_pb2.Outcome:
    """What the same refusal would be as the status of a call of its own."""
    return session_service_pb2.Outcome(
        name=name,
        code=to_grpc_code(error).value[0],
        reason=error.reason,
        message=error.message,
        metadata=error.metadata,
    )
