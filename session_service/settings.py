"""The session service's settings: MOBOT_SESSION_* variables."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from chassis.settings import MobotSettings


class SessionSettings(MobotSettings):
    """What the session service needs to know besides `ChassisSettings`."""

    model_config = SettingsConfigDict(env_prefix="MOBOT_SESSION_")

    database_url: str | None = Field(
        None,
        description="Database of the sessions: `sqlite:///path` or `postgresql://user@host/name`. "
        "Default: `session.sqlite3` in the data directory.",
    )
    host: str = Field("127.0.0.1", description="Address the session service listens on.")
    port: int = Field(50052, ge=0, le=65535, description="TCP port of the session service; 0 takes any free one.")
    socket: Path | None = Field(None, description="Unix socket the session service listens on as well.")
    watch_queue_events: int = Field(
        4_096, ge=1, description="Events a watcher may lag behind before it is served from the log again."
    )
    slow_after_s: float = Field(
        30.0, gt=0, description="Seconds a watcher may take for one frame before it counts as slow."
    )
    slow_events: int = Field(
        10_000, ge=0, description="Events a slow watcher may be behind before its stream is closed."
    )
    poll_interval_s: float = Field(
        0.5, gt=0, le=60, description="Seconds between looks for what another replica wrote, on PostgreSQL."
    )
    purge_after_days: float = Field(
        30.0, ge=0, le=3650, description="Days a deleted session can be undeleted before its purge time."
    )
    index_delay_s: float = Field(
        0.5, ge=0, le=60, description="Seconds after an append until its words are indexed for search."
    )
    bot_cache_s: float = Field(5.0, ge=0, le=300, description="Seconds for which a bot is remembered to exist.")
