"""The keys clients name sessions by, and the sessions they mean."""

from dataclasses import dataclass

from chassis import resource_names
from chassis.resource_names import SessionName
from gateway import errors

MAIN = "main"
_PREFIX = "agent:"


@dataclass(frozen=True, slots=True)
class Keys:
    """Reads "agent:{bot}:{session}"; a bare "{session}" belongs to the agent given beside it, or to the default."""

    default_bot: str

    def session(self, key: str, agent: str | None = None, *, field: str = "key") -> SessionName:
        """The session a key means.

        Raises:
            InvalidArgument: RESOURCE_NAME_INVALID, saying which rule the key breaks.
            RequestRefused: the key names another agent than the one beside it.
        """
        if not key.lower().startswith(_PREFIX):
            bot = resource_names.check_bot_id(agent.lower() if agent else self.default_bot, field="agentId")
            return SessionName(bot, resource_names.check_session_id(key, field=field))
        session = resource_names.parse_session_key(key, field=field)
        if agent and agent.lower() != session.bot:
            raise errors.invalid_request(
                f"{field} belongs to agent {session.bot}, not to {agent}", reason="agent-mismatch"
            )
        return session

    def bot(self, agent: str | None) -> str:
        """The resource name of an agent, "bots/{bot}"."""
        return resource_names.bot_name(agent.lower() if agent else self.default_bot)


def key_of(name: str) -> str:
    """ "bots/main/sessions/inbox" -> "agent:main:inbox". For names that services sent: not checked again."""
    _, bot, _, session = name.split("/", 3)
    return f"agent:{bot}:{session}"


def agent_of(name: str) -> str:
    """ "bots/main" or "bots/main/sessions/inbox" -> "main"."""
    return name.split("/", 2)[1]
