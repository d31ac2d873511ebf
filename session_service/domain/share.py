"""Links to share a session by: read-only, revocable, expiring."""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ShareLink:
    """A way into one transcript of one session. Times in microseconds.

    `start_sequence` is the one before the transcript; `through_sequence` is the last one shared, 0 for all.
    """

    bot: str
    session_id: str
    link_id: str
    start_sequence: int
    through_sequence: int
    created_by: str
    create_time: int
    expire_time: int | None = None
    revoke_time: int | None = None

    @property
    def name(self) -> str:
        return f"bots/{self.bot}/sessions/{self.session_id}/shareLinks/{self.link_id}"

    def works(self, now: int) -> bool:
        return self.revoke_time is None and (self.expire_time is None or now < self.expire_time)


def hash_of(token: str) -> bytes:
    """What is kept of a token. It is long and random, so a plain digest cannot be turned back."""
    return hashlib.sha256(token.encode()).digest()
