"""References and filters of messages."""

from collections.abc import Sequence

from chassis.errors import InvalidArgument
from chassis.identity import Caller, bot_of
from chassis.resource_names import parse_bot, parse_session
from mobot.router.v1 import router_service_pb2
from router_service.convert.times import to_us
from router_service.domain.state import MessageState
from router_service.store.messages import MessageQuery


def message_id_of(name: str, field: str) -> str:
    prefix, _, message_id = name.partition("/")
    if prefix != "messages" or not message_id or "/" in message_id or len(message_id) > 64:
        raise InvalidArgument(
            f"{field}: must look like messages/{{message}}",
            reason="RESOURCE_NAME_INVALID",
            metadata={"field": field, "value": ascii(name[:80])},
        )
    return message_id


def query_of(
    given: router_service_pb2.MessageFilter, caller: Caller, *, states: Sequence[MessageState] = ()
) -> MessageQuery:
    own = bot_of(caller)
    if given.session:
        parse_session(given.session, field="filter.session")
    if given.bot:
        parse_bot(given.bot, field="filter.bot")
    return MessageQuery(
        session=given.session,
        bot=given.bot,
        states=tuple(int(state) for state in (states or given.states)),
        source=given.source,
        correlation_id=given.correlation_id,
        start_us=to_us(given.start_time, "filter.start_time") if given.HasField("start_time") else 0,
        end_us=to_us(given.end_time, "filter.end_time") if given.HasField("end_time") else 0,
        visible_to=f"bots/{own}" if own else "",
    )
