"""The events a turn writes, and their ids: derived from the run and the step, so that a retry never doubles a line."""

import hashlib

from bot_sdk import convert
from bot_sdk.model import Consumption, Effect, InboundMessage, Lease, Role
from mobot.session.v1 import event_pb2, part_pb2

_MAX_ID_CHARS = 256


def event_id(run: str, *rest: str) -> str:
    """ "run/{run}/{rest...}", shortened by a hash where it would be too long for an id."""
    whole = "/".join(("run", run, *rest))
    if len(whole) <= _MAX_ID_CHARS:
        return whole
    digest = hashlib.sha256(whole.encode()).hexdigest()[:32]
    return f"{whole[: _MAX_ID_CHARS - 33]}/{digest}"


def reply_id(run: str) -> str:
    """The id of the one final assistant message of a run."""
    return event_id(run, "reply")


class EventFactory:
    """Makes the events of one turn."""

    def __init__(self, lease: Lease, message: InboundMessage) -> None:
        self._lease = lease
        self._traceparent = message.traceparent

    def reply(
        self,
        text: str,
        *,
        model: str = "",
        used: Consumption | None = None,
        stop_reason: str = "stop",
        cited_memories: tuple[str, ...] = (),
        partial: bool = False,
    ) -> event_pb2.Event:
        """The final assistant message, or with `partial` what there was of it when the turn was stopped."""
        said = event_pb2.MessageAppended(
            role=event_pb2.ROLE_ASSISTANT,
            parts=convert.text_parts(text),
            source=self._lease.bot,
            model=model,
            stop_reason=stop_reason,
            partial=partial,
        )
        if cited_memories:
            said.cited_memories.extend(cited_memories[:64])
        if used is not None:
            said.usage.CopyFrom(convert.from_consumption(used))
        return event_pb2.Event(
            id=reply_id(self._lease.run),
            run=self._lease.run,
            actor=self._lease.bot,
            traceparent=self._traceparent,
            message=said,
        )

    def said(self, step: str, text: str, *, role: Role = Role.ASSISTANT) -> event_pb2.Event:
        """A message between the inbound one and the reply."""
        event = self._event("step", step, "said")
        event.message.role = convert.from_role(role)
        event.message.parts.extend(convert.text_parts(text))
        event.message.source = self._lease.bot
        return event

    def called(self, step: str, *, call_id: str, tool: str, arguments_json: str, effect: Effect) -> event_pb2.Event:
        event = self._event("step", step, "called")
        event.tool_called.call_id = call_id
        event.tool_called.tool = tool
        event.tool_called.arguments_json = arguments_json
        event.tool_called.effect = convert.from_effect(effect)
        return event

    def returned(
        self, step: str, *, call_id: str, tool: str, parts: list[part_pb2.Part], is_error: bool
    ) -> event_pb2.Event:
        event = self._event("step", step, "returned")
        event.tool_returned.call_id = call_id
        event.tool_returned.tool = tool
        event.tool_returned.parts.extend(parts)
        event.tool_returned.is_error = is_error
        return event

    def _event(self, *id_parts: str) -> event_pb2.Event:
        return event_pb2.Event(
            id=event_id(self._lease.run, *id_parts),
            run=self._lease.run,
            actor=self._lease.bot,
            traceparent=self._traceparent,
        )
