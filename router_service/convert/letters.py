"""Mail that the store has written inside a transaction: results of children, copies of publications."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from mobot.router.v1 import message_pb2
from router_service.convert.turns import next_turn
from router_service.domain import limits
from router_service.domain.mail import EndedRun, NewMessage
from router_service.domain.spawning import OpenSpawn

SPAWN_TYPE: Final = "mobot.spawn"
SPAWN_RESULT_TYPE: Final = "mobot.spawn.result"
RUN_LABEL: Final = "mobot.run"
OUTCOME_LABEL: Final = "mobot.outcome"
CHILD_LABEL: Final = "mobot.child"
TOPIC_LABEL: Final = "mobot.topic"


def result_labels(run: str, outcome: str, child: str) -> dict[str, str]:
    return {RUN_LABEL: run, OUTCOME_LABEL: outcome, CHILD_LABEL: child}


class LetterWriter:
    """Implements `router_service.store.letters.Letters`. `new_id` is called from the writer's thread alone."""

    def __init__(self, new_id: Callable[[], str], *, max_attempts: int) -> None:
        self._new_id = new_id
        self._max_attempts = max_attempts

    def result(self, spawn: OpenSpawn, ended: EndedRun, reply_text: str) -> NewMessage:
        run = f"reply/{spawn.run}"
        draft = message_pb2.MessageDraft(
            session=spawn.parent,
            source=spawn.session,
            idempotency_key=run,
            mode=message_pb2.BUSY_MODE_ENQUEUE,
            correlation_id=spawn.run[:200],
            in_reply_to=spawn.message_id,
            hop_count=1,
            type=SPAWN_RESULT_TYPE,
            metadata=result_labels(spawn.run, ended.state.name, spawn.session),
            max_attempts=self._max_attempts,
        )
        draft.parts.add(text=reply_text or _explanation(spawn, ended))
        bot = spawn.session[: spawn.session.index("/sessions/")]
        return NewMessage(
            id=self._new_id(),
            run=run,
            session=spawn.parent,
            bot=spawn.parent[: spawn.parent.index("/sessions/")],
            draft=draft.SerializeToString(),
            sender=bot,
            source=spawn.session,
            content_hash="reply",
            correlation_id=draft.correlation_id,
            max_attempts=self._max_attempts,
            internal=True,
        )

    def failure(self, draft: bytes, ended: EndedRun) -> NewMessage | None:
        original = message_pb2.MessageDraft.FromString(draft)
        to = original.reply_to
        if not to.startswith("bots/") or original.hop_count + 1 >= limits.MAX_HOPS:
            return None
        session = to if "/sessions/" in to else f"{to}/sessions/{limits.MAIN_SESSION}"
        run = f"reply/{ended.run}"
        notice = message_pb2.MessageDraft(
            session=session,
            source=ended.session,
            idempotency_key=run,
            mode=message_pb2.BUSY_MODE_ENQUEUE,
            correlation_id=original.correlation_id,
            in_reply_to=ended.message_id,
            hop_count=original.hop_count + 1,
            turn_count=next_turn(original, ended.session, session),
            type=limits.FAILED_REPLY_TYPE,
            metadata=result_labels(ended.run, ended.state.name, ended.session),
            traceparent=original.traceparent,
            max_attempts=self._max_attempts,
        )
        notice.parts.add(text=_without_reply(ended))
        return NewMessage(
            id=self._new_id(),
            run=run,
            session=session,
            bot=session[: session.index("/sessions/")],
            draft=notice.SerializeToString(),
            sender=ended.bot,
            source=ended.session,
            content_hash="reply",
            correlation_id=original.correlation_id,
            max_attempts=self._max_attempts,
            internal=True,
        )

    def copy(self, publication: NewMessage, session: str, number: int) -> NewMessage:
        run = f"topic/{publication.id}/{number}"
        # A field that comes again replaces the earlier one, so the content is not taken apart for each subscriber.
        correlation_id = publication.correlation_id or publication.run[: limits.MAX_KEY]
        own = message_pb2.MessageDraft(session=session, idempotency_key=run, correlation_id=correlation_id)
        return replace(
            publication,
            id=self._new_id(),
            run=run,
            session=session,
            bot=session[: session.index("/sessions/")],
            draft=publication.draft + own.SerializeToString(),
            content_hash="copy",
            correlation_id=correlation_id,
        )


def _explanation(spawn: OpenSpawn, ended: EndedRun) -> str:
    text = f"{spawn.session} ended its task: {ended.state.name}"
    reason = ": ".join(filter(None, (ended.error_reason, ended.error_message)))
    return f"{text} ({reason})" if reason else text


def _without_reply(ended: EndedRun) -> str:
    text = f"{ended.session} gives no reply: {ended.state.name}"
    reason = ": ".join(filter(None, (ended.error_reason, ended.error_message)))
    return f"{text} ({reason})" if reason else text
