"""Errors as items of a batch carry them."""

from chassis.errors import AppError
from chassis.status import to_grpc_code
from mobot.router.v1 import message_pb2
from router_service.convert.times import set_span


def fill_refusal(refusal: message_pb2.Refusal, error: AppError) -> None:
    refusal.code = to_grpc_code(error).value[0]
    refusal.reason = error.reason or error.code
    refusal.message = error.message
    refusal.metadata.update(error.metadata)
    if error.retry_after_s is not None:
        set_span(refusal.retry_delay, int(error.retry_after_s * 1e6))
