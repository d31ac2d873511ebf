"""Mail that is written inside a transaction, because only there is known what it says."""

from typing import Protocol

from router_service.domain.mail import EndedRun, NewMessage
from router_service.domain.spawning import OpenSpawn


class Letters(Protocol):
    """Makes messages without knowing the tables. Called from the writer's thread."""

    def result(self, spawn: OpenSpawn, ended: EndedRun, reply_text: str) -> NewMessage:
        """What a parent is told of its child's end, when the child's own reply does not tell it."""
        ...

    def failure(self, draft: bytes, ended: EndedRun) -> NewMessage | None:
        """What whoever wanted a reply is told of a run that gives none; None when nobody wanted one."""
        ...

    def copy(self, publication: NewMessage, session: str, number: int) -> NewMessage:
        """A published message for one subscriber's session."""
        ...
