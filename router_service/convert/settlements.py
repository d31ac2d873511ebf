"""Completions, failures and their settlements."""

from chassis.errors import field_invalid
from mobot.router.v1 import message_pb2
from router_service.convert.drafts import check_parts, check_text
from router_service.convert.refusals import fill_refusal
from router_service.convert.times import span_us
from router_service.domain import limits
from router_service.store.items import Remember, Settle

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
    question = b""
    if failure.HasField("decision_request"):
        request = failure.decision_request
        _check_question(request)
        question = request.SerializeToString()
        # The run's error too, so that lists show it to whoever looks there.
        reason, message = reason or "NEEDS_DECISION", request.question
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
        retryable=failure.retryable,
        question=question,
        cancelled=failure.cancelled,
        retry_delay_us=delay_us,
    )


def from_step(step: message_pb2.RunStep, session: str, attachment: int) -> Remember:
    if not step.step:
        raise field_invalid("step.step", "must be set")
    check_text(step.step, "step.step", limits.MAX_STEP_NAME)
    if len(step.result) > limits.MAX_STEP_BYTES:
        raise field_invalid("step.result", "must be at most 256 KiB")
    return Remember(
        session=session,
        run=step.run,
        epoch=step.epoch,
        step=step.step,
        effect=step.effect,
        result=step.result,
        attachment=attachment,
    )


def to_step_receipt(item: Remember) -> message_pb2.StepReceipt:
    receipt = message_pb2.StepReceipt(run=item.run, epoch=item.epoch, step=item.step, duplicate=item.duplicate)
    if item.refusal is not None:
        fill_refusal(receipt.refusal, item.refusal)
    return receipt


def to_settlement(item: Settle) -> message_pb2.Settlement:
    settlement = message_pb2.Settlement(run=item.run, epoch=item.epoch)
    settlement.state = message_pb2.MessageState.ValueType(item.state.value)
    if item.refusal is not None:
        fill_refusal(settlement.refusal, item.refusal)
    return settlement


def _check_question(request: message_pb2.DecisionRequest) -> None:
    field = "failure.decision_request"
    if not request.question or len(request.question) > limits.MAX_ERROR_MESSAGE:
        raise field_invalid(f"{field}.question", f"must be 1 to {limits.MAX_ERROR_MESSAGE} characters")
    if len(request.choices) > limits.MAX_CHOICES:
        raise field_invalid(f"{field}.choices", f"must be at most {limits.MAX_CHOICES}")
    for number, choice in enumerate(request.choices):
        if not choice or len(choice) > limits.MAX_REASON:
            raise field_invalid(f"{field}.choices[{number}]", f"must be 1 to {limits.MAX_REASON} characters")
    if "\x00" in request.question or len(request.call_id) > limits.MAX_KEY:
        raise field_invalid(field, f"must not contain U+0000, and call_id must be at most {limits.MAX_KEY} characters")


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
