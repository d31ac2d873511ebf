"""What a person types for a bot, a session or a memory, as the services call it."""

from chassis import resource_names
from chassis.errors import field_invalid

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
