"""Completions, failures and their settlements."""

from mobot.router.v1 import message_pb2
from router_service.convert.drafts import check_parts
from router_service.convert.refusals import fill_refusal
from router_service.convert.times import span_us
from router_service.domain import limits
from router_service.store.items import Settle

MAX_RETRY_DELAY_S = 7 * 86_400.0


def from_completion(completion: message_pb2.Completion, session: str, attachment: int) -> Settle:
    """Without the mail that it sends; that needs the message it answers."""
    check_parts(completion.reply, "completion.reply", least=0)
    return Settle(
        session=session,
        run=completion.run,
        epoch=completion.epoch,
        succeeded=True,
        attachment=attachment,
        usage=completion.usage.SerializeToString() if completion.HasField("usage") else b"",
        stop_reason=_cut(completion.stop_reason, limits.MAX_ERROR_REASON),
        reply_text=_text(completion),
    )


def from_failure(failure: message_pb2.Failure, session: str, attachment: int) -> Settle:
    reason, message = failure.error.reason, failure.error.message
    retryable = failure.retryable
    if failure.HasField("decision_request"):
        # Decisions are not served yet: the question is kept as the run's error, where a person finds it.
        reason, message, retryable = "NEEDS_DECISION", failure.decision_request.question, False
    delay_us: int | None = None
    if failure.HasField("retry_delay"):
        delay_us = span_us(failure.retry_delay, "failure.retry_delay", maximum_s=MAX_RETRY_DELAY_S)
    return Settle(
        session=session,
        run=failure.run,
        epoch=failure.epoch,
        succeeded=False,
        attachment=attachment,
        usage=failure.usage.SerializeToString() if failure.HasField("usage") else b"",
        error_reason=_cut(reason, limits.MAX_ERROR_REASON),
        error_message=_cut(message, limits.MAX_ERROR_MESSAGE),
        retryable=retryable,
        cancelled=failure.cancelled,
        retry_delay_us=delay_us,
    )


def to_settlement(item: Settle) -> message_pb2.Settlement:
    settlement = message_pb2.Settlement(run=item.run, epoch=item.epoch)
    settlement.state = message_pb2.MessageState.ValueType(item.state.value)
    if item.refusal is not None:
        fill_refusal(settlement.refusal, item.refusal)
    return settlement


def _text(completion: message_pb2.Completion) -> str:
    if not completion.reply:
        return ""
    text = "\n".join(part.text for part in completion.reply if part.WhichOneof("content") == "text")
    encoded = text.encode()
    if len(encoded) <= limits.MAX_REPLY_TEXT_BYTES:
        return text
    return encoded[: limits.MAX_REPLY_TEXT_BYTES].decode(errors="ignore")


def _cut(text: str, longest: int) -> str:
    return text[:longest].replace("\x00", "")
