"""Messages for topics."""

import re
from typing import Final

from chassis.errors import InvalidArgument
from chassis.identity import Caller
from mobot.router.v1 import message_pb2
from router_service.convert.drafts import DraftReader
from router_service.convert.letters import TOPIC_LABEL
from router_service.store.fan_items import Publish

# Stands in for the subscribers' sessions while the rest of the draft is checked.
_ANYBODY: Final = "bots/topic/sessions/main"
_TOPIC_ID: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def read_publication(
    drafts: DraftReader, given: message_pb2.MessageDraft, caller: Caller, *, traceparent: str = ""
) -> Publish:
    """The draft, whose destination is a topic, ready to be copied for subscribers. Raises as `DraftReader.read`."""
    topic = parse_topic(given.topic, "message.topic")
    draft = message_pb2.MessageDraft()
    draft.CopyFrom(given)
    draft.session = _ANYBODY
    draft.metadata[TOPIC_LABEL] = given.topic
    return Publish(message=drafts.read(draft, caller, traceparent=traceparent).message, topic=topic)


def parse_topic(name: str, field: str) -> str:
    """ "topics/news" -> "news"."""
    prefix, _, topic = name.partition("/")
    if prefix != "topics" or not _TOPIC_ID.fullmatch(topic):
        raise InvalidArgument(
            f"{field}: must look like topics/{{topic}} with 1 to 64 characters of a-z 0-9 . _ -",
            reason="RESOURCE_NAME_INVALID",
            metadata={"field": field, "value": ascii(name[:80])},
        )
    return topic
