"""What handlers work with: the services, our streams to them, and what is known without asking."""

from collections.abc import Callable
from dataclasses import dataclass

from gateway.bots import Bots
from gateway.hub import Hub
from gateway.keys import Keys
from gateway.mail import Mail, RouterStub
from gateway.rows import Rows
from gateway.streams import SessionStub, Streams


@dataclass(frozen=True, slots=True)
class Services:
    """Constructed once; handlers keep no state of their own. `new_id` makes UUIDs."""

    sessions: SessionStub
    router: RouterStub
    bots: Bots
    mail: Mail
    streams: Streams
    hub: Hub
    keys: Keys
    rows: Rows
    new_id: Callable[[], str]

    def now_ms(self) -> int:
        return self.hub.now_ms()
