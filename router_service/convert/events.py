"""What the router writes into sessions' logs. Ids and contents follow from the stored rows alone, so that writing an
event again after a crash changes nothing."""

from mobot.router.v1 import message_pb2
from mobot.session.v1 import event_pb2, session_pb2, session_service_pb2
from router_service.convert.times import set_time
from router_service.domain.mail import AskedRun, EndedRun, JoinedMessage, Lease, RetryingRun
from router_service.domain.state import MessageState

_OUTCOMES = {
    MessageState.SUCCEEDED: session_pb2.RUN_OUTCOME_SUCCEEDED,
    MessageState.FAILED: session_pb2.RUN_OUTCOME_FAILED,
    MessageState.CANCELLED: session_pb2.RUN_OUTCOME_CANCELLED,
    MessageState.EXPIRED: session_pb2.RUN_OUTCOME_EXPIRED,
    MessageState.DEAD_LETTERED: session_pb2.RUN_OUTCOME_DEAD_LETTERED,
    MessageState.REJECTED: session_pb2.RUN_OUTCOME_REJECTED,
}


def ensure_session(append: session_service_pb2.SessionAppend, draft: message_pb2.MessageDraft) -> None:
    """Has the session made if there is none."""
    ensure = append.ensure
    ensure.created_via = "operator" if draft.user_input else "mail"
    ensure.user_created = draft.user_input


def add_message(
    append: session_service_pb2.SessionAppend, run: Lease | EndedRun | JoinedMessage, draft: message_pb2.MessageDraft
) -> None:
    """The inbound message. A redriven one is the same event as that of its origin.

    One that joins another's turn is an event of its own run all the same, because it may yet get a turn of its own.
    """
    message_id = run.origin_id or run.message_id
    event = append.events.add()
    event.id = f"message/{message_id}"
    event.run = run.origin_run or run.run
    event.actor = run.sender
    if draft.traceparent:
        event.traceparent = draft.traceparent
    message = event.message
    message.role = event_pb2.ROLE_USER
    message.parts.extend(draft.parts)
    message.source = draft.source
    message.message_id = message_id
    message.idempotency_key = draft.idempotency_key
    message.inter_session = draft.source.startswith("bots/") and not draft.user_input
    if draft.metadata:
        message.metadata.update(draft.metadata)


def add_started(append: session_service_pb2.SessionAppend, lease: Lease) -> None:
    event = append.events.add()
    event.id = f"run/{lease.run}/started/{lease.attempt}"
    event.run = lease.run
    event.actor = lease.sender
    started = event.run_started
    started.attempt = lease.attempt
    started.worker = lease.worker
    started.epoch = lease.epoch
    started.message_id = lease.message_id


def add_finished(append: session_service_pb2.SessionAppend, ended: EndedRun) -> None:
    event = append.events.add()
    event.id = f"run/{ended.run}/finished"
    event.run = ended.run
    event.actor = ended.sender
    finished = event.run_finished
    finished.outcome = _OUTCOMES[ended.state]
    finished.attempts = ended.attempts
    finished.message_id = ended.message_id
    if ended.error_reason:
        finished.error_reason = ended.error_reason
    if ended.error_message:
        finished.error_message = ended.error_message
    if ended.usage:
        finished.usage.ParseFromString(ended.usage)
    if ended.start_us:
        set_time(finished.start_time, ended.start_us)
    if ended.stop_reason:
        finished.stop_reason = ended.stop_reason


def add_question(append: session_service_pb2.SessionAppend, asked: AskedRun) -> None:
    event = append.events.add()
    event.id = f"run/{asked.run}/question/{asked.attempt}"
    event.run = asked.run
    event.actor = asked.sender
    request = message_pb2.DecisionRequest.FromString(asked.request)
    question = event.decision_requested
    question.question = request.question
    question.choices.extend(request.choices)
    question.call_id = request.call_id


def add_retrying(append: session_service_pb2.SessionAppend, retrying: RetryingRun) -> None:
    event = append.events.add()
    event.id = f"run/{retrying.run}/retrying/{retrying.attempt}"
    event.run = retrying.run
    what = event.run_retrying
    what.attempt = retrying.attempt
    what.error_reason = retrying.error_reason
    what.error_message = retrying.error_message
    if retrying.next_attempt_us:
        set_time(what.next_attempt_time, retrying.next_attempt_us)
