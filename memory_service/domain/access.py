"""Who may reach which memory. An actor is "operators/…", "services/…", "bots/…" or "workers/…".

Operators and services reach everything, a bot only what is its own. Whatever else exists looks to it as if it did not.
"""

from chassis.errors import PermissionDenied

_TRUSTED = ("operators", "services")
NOBODY = ""
"""The id of no bot: its namespace is always empty."""


def is_trusted(actor: str) -> bool:
    return actor.partition("/")[0] in _TRUSTED


def owns(actor: str, bot: str) -> bool:
    """Whether the actor reaches the memory of the bot with id `bot`.

    Raises:
        PermissionDenied: the actor is neither a bot nor trusted, so there is no memory that it could ask for.
    """
    if is_trusted(actor):
        return True
    kind, _, own = actor.partition("/")
    if kind != "bots" or not own:
        raise _denied(actor, "may not use memories; it acts for a bot")
    return own == bot


def readable(actor: str, bot: str) -> str:
    """The bot whose namespace the actor sees when it asks for that of `bot`."""
    return bot if owns(actor, bot) else NOBODY


def check_operator(actor: str, what: str) -> None:
    if not is_trusted(actor):
        raise _denied(actor, f"may not {what}")


def _denied(actor: str, what: str) -> PermissionDenied:
    return PermissionDenied(f"{actor} {what}", metadata={"actor": actor})
