"""Mail between sessions, as one bot sends it."""

import time

from bot_sdk import convert
from bot_sdk.model import Receipt, RunResult
from bot_sdk.stubs import Stubs, acting_for, answer
from chassis import resource_names
from mobot.router.v1 import message_pb2, router_service_pb2

MAX_WAIT_S = 600.0
_ONE_WAIT_S = 30.0


def set_destination(draft: message_pb2.MessageDraft, to: str) -> None:
    """`to` is "bots/{bot}", "bots/{bot}/sessions/{session}", "topics/{topic}" or a key "agent:{bot}:{session}".

    Raises:
        InvalidArgument: it is none of these.
    """
    if to.startswith("topics/"):
        draft.topic = to
    elif to.startswith("agent:"):
        draft.session = resource_names.parse_session_key(to, field="to").name
    elif "/sessions/" in to:
        draft.session = resource_names.parse_session(to, field="to").name
    else:
        draft.bot = resource_names.bot_name(resource_names.parse_bot(to, field="to"))


class Mail:
    """Sends for `actor` ("bots/main"), and waits for what became of it."""

    def __init__(self, stubs: Stubs, actor: str) -> None:
        self._stubs = stubs
        self._metadata = acting_for(actor)

    async def send(
        self,
        to: str,
        text: str,
        *,
        idempotency_key: str,
        source: str = "",
        reply_to: str = "",
        correlation_id: str = "",
        hop_count: int = 0,
        metadata: dict[str, str] | None = None,
    ) -> Receipt:
        """Sends and returns once the message is durable. Nobody has read it by then.

        The same key with the same content sends once, however often it is called.
        """
        draft = message_pb2.MessageDraft(
            source=source,
            parts=convert.text_parts(text),
            idempotency_key=idempotency_key,
            reply_to=reply_to,
            correlation_id=correlation_id,
            hop_count=hop_count,
            metadata=metadata or {},
        )
        set_destination(draft, to)
        request = router_service_pb2.SendMessageRequest(message=draft)
        response = await answer(self._stubs.router.SendMessage(request, metadata=self._metadata))
        return convert.to_receipt(response.receipt)

    async def wait(self, run: str, *, timeout_s: float) -> RunResult:
        """What became of a run after at most `timeout_s` seconds; `done` is False when it still goes on."""
        deadline = time.monotonic() + min(timeout_s, MAX_WAIT_S)
        while True:
            left_s = max(0.05, deadline - time.monotonic())
            request = router_service_pb2.WaitRunRequest(run=run)
            # In slices, so that a call never outlives a worker that went away by much.
            request.timeout.CopyFrom(convert.to_duration(min(left_s, _ONE_WAIT_S)))
            response = await answer(self._stubs.router.WaitRun(request, metadata=self._metadata))
            if response.done or time.monotonic() >= deadline:
                return convert.to_run_result(response.message, done=response.done)
