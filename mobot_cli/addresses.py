"""What a person types for a bot, a session or a memory, as the services call it."""

from typing import TYPE_CHECKING

from chassis import resource_names
from chassis.errors import field_invalid

if TYPE_CHECKING:
    from mobot.router.v1 import message_pb2, router_service_pb2

MAIN_SESSION = "main"


def bot_name(text: str) -> str:
    """`main` or `bots/main` -> `bots/main`."""
    if text.startswith("bots/"):
        return resource_names.bot_name(resource_names.parse_bot(text, field="bot"))
    return resource_names.bot_name(resource_names.check_bot_id(text, field="bot"))


def memory_name(bot: str, memory: str) -> str:
    """A memory's id within `bot`, or its resource name -> the resource name."""
    if "/" in memory:
        parsed = resource_names.parse_memory(memory, field="memory")
        return resource_names.memory_name(parsed.bot, parsed.memory)
    owner = resource_names.parse_bot(bot_name(bot))
    return resource_names.memory_name(owner, resource_names.check_memory_id(memory, field="memory"))


def block_name(bot: str, block: str) -> str:
    """A block's id within `bot`, or its resource name -> the resource name."""
    return block if "/" in block else f"{bot_name(bot)}/blocks/{block}"


def session_name(text: str) -> str:
    """`main` (a bot's main session), `main/budget`, `agent:main:budget` or the resource name -> the resource name.

    Raises:
        InvalidArgument: it is none of these.
    """
    if text.startswith("topics/"):
        topic = text.removeprefix("topics/")
        raise field_invalid("session", f"{text!r} is a topic: mobot topics publish {topic} TEXT")
    if text.startswith("agent:"):
        return resource_names.parse_session_key(text, field="session").name
    if text.startswith("bots/"):
        return resource_names.parse_session(text, field="session").name
    bot, slash, session = text.partition("/")
    if slash and not session:
        raise field_invalid("session", f"{text!r} names no session; write BOT/SESSION, or BOT for its main session")
    return resource_names.session_name(
        resource_names.check_bot_id(bot, field="bot"),
        resource_names.check_session_id(session or MAIN_SESSION, field="session"),
    )


def mail_name(text: str) -> str:
    """Who gets mail: a bot (`main`, `bots/main`) or a session, in every form -> the resource name."""
    if "/sessions/" in text or text.startswith("agent:") or ("/" in text and not text.startswith("bots/")):
        return session_name(text)
    return bot_name(text)


def set_destination(draft: "message_pb2.MessageDraft", text: str) -> None:
    """A session, a bot (its main session) or `topics/TOPIC` as the destination of `draft`."""
    if text.startswith("topics/"):
        draft.topic = text
        return
    name = mail_name(text)
    if "/sessions/" in name:
        draft.session = name
    else:
        draft.bot = name


def message_filter(bot: str, session: str) -> "router_service_pb2.MessageFilter":
    """Only what is for the bot, and for the session, as far as they are given."""
    from mobot.router.v1 import router_service_pb2

    return router_service_pb2.MessageFilter(
        bot=bot_name(bot) if bot else "", session=session_name(session) if session else ""
    )


def short_name(name: str) -> str:
    """A resource name as people write it: `bots/main/sessions/x` -> `main/x`."""
    return name.removeprefix("bots/").replace("/sessions/", "/")
