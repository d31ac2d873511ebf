"""What the operator decides about all sessions."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rules:
    """`max_named_sessions` is for each creator; 0 means no cap. Times are microseconds; `idle_ttl` 0 means never."""

    default_persistent: bool = False
    protect_main_session: bool = False
    named_sessions_enabled: bool = True
    max_named_sessions: int = 50
    idle_ttl: int = 0
    expiry_warning: int = 86_400_000_000


DEFAULT_RULES = Rules()
