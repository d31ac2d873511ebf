"""The router's settings: MOBOT_ROUTER_* variables."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from chassis.settings import ListenSettings


class RouterSettings(ListenSettings):
    """What the router service needs to know besides `ChassisSettings`."""

    model_config = SettingsConfigDict(env_prefix="MOBOT_ROUTER_")

    database_url: str | None = Field(
        None,
        description="Database of the router: `sqlite:///path` or `postgresql://user@host/name`. "
        "Default: `router.sqlite3` in the data directory.",
    )
    host: str = Field("127.0.0.1", description="Address the router listens on.")
    port: int = Field(50054, ge=0, le=65535, description="TCP port of the router; 0 takes any free one.")
    socket: Path | None = Field(None, description="Unix socket the router listens on as well.")
    lease_s: float = Field(15.0, ge=0.1, le=3600, description="Seconds a lease outlives the stream of its worker.")
    cancel_grace_s: float = Field(
        5.0, ge=0, le=600, description="Seconds a worker has to stop a cancelled run before its lease is taken away."
    )
    max_attempts: int = Field(5, ge=1, le=20, description="Attempts of a message that does not say how many.")
    backoff_initial_s: float = Field(
        1.0, gt=0, le=3600, description="Longest wait in seconds before the second attempt."
    )
    backoff_max_s: float = Field(60.0, gt=0, le=86_400, description="Longest wait in seconds before any attempt.")
    mailbox_limit: int = Field(10_000, ge=1, description="Most messages that may wait in one mailbox.")
    bot_backlog_limit: int = Field(100_000, ge=1, description="Most messages that may wait for one bot.")
    max_pair_turns: int = Field(
        8, ge=1, le=100, description="How often two sessions may answer each other in one exchange."
    )
    send_window: int = Field(1_024, ge=1, le=100_000, description="Messages a Send stream may have unanswered.")
    poll_interval_s: float = Field(
        0.5, gt=0, le=60, description="Seconds between looks for what another replica changed, on PostgreSQL."
    )
    bot_cache_s: float = Field(5.0, ge=0, le=300, description="Seconds for which a bot's settings are remembered.")
    spawn_depth: int = Field(5, ge=1, le=32, description="Generations of children below a session nobody spawned.")
    spawn_fan_out: int = Field(16, ge=1, le=10_000, description="Children of one session that may be at work at once.")
    watch_backlog: int = Field(10_000, ge=1, description="Changed messages a WatchMessages stream may lag behind.")
    topic_limit: int = Field(1_000, ge=1, le=10_000, description="Most subscribers of a topic.")
    retention_days: float = Field(
        30.0, ge=7, le=3650, description="Days an ended message is kept, and its idempotency key with it."
    )
