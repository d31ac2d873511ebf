"""Who may see and do what. Bots are confined to their own; what is not theirs looks missing."""

from chassis.identity import Caller, bot_of
from router_service.domain.errors import CallerNotAllowed, MessageNotFound


def own_bot(caller: Caller) -> str:
    """ "bots/main" when the call is made for that bot, empty for people and services."""
    bot = bot_of(caller)
    return f"bots/{bot}" if bot else ""


def check_session(caller: Caller, session: str, what: str) -> None:
    """Refuses, as if it did not exist, what lies in a session that is not the calling bot's own."""
    bot = own_bot(caller)
    if bot and not session.startswith(f"{bot}/"):
        raise MessageNotFound(what)


def check_message(caller: Caller, session: str, sender: str, what: str) -> None:
    """The same for a message, which its sender may see as well."""
    if sender != caller.actor:
        check_session(caller, session, what)


def check_worker(caller: Caller, worker: str, bots: frozenset[str]) -> None:
    """A worker speaks for itself, a bot for a worker that serves it alone; services and operators for any.

    Which bots a worker serves is for `Attaching` to ask.
    """
    if caller.root and not own_bot(caller):
        return
    if caller.actor == worker or bots == {own_bot(caller)}:
        return
    raise CallerNotAllowed(
        f"{caller.actor} may not attach as {worker}", metadata={"principal": caller.principal, "actor": caller.actor}
    )


def check_holder(caller: Caller, session: str, worker: str, what: str) -> None:
    """Refuses, as if it did not exist, a run that was leased to somebody else: `worker` has it, in `session`."""
    check_session(caller, session, what)
    if caller.worker and caller.worker != worker:
        raise MessageNotFound(what)


def check_operator(caller: Caller) -> None:
    """Refuses bots."""
    if own_bot(caller):
        raise CallerNotAllowed(
            f"{caller.actor} may not do this", metadata={"principal": caller.principal, "actor": caller.actor}
        )
