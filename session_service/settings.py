"""The session service's settings: MOBOT_SESSION_* variables."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from chassis.settings import ListenSettings


class SessionSettings(ListenSettings):
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
    import_max_mib: int = Field(4_096, ge=1, description="MiB that an import may have, as sent and as unpacked.")
    index_delay_s: float = Field(
        0.5, ge=0, le=60, description="Seconds after an append until its words are indexed for search."
    )
    default_persistent: bool = Field(
        False, description="Whether sessions that people create with a label are persistent from the start."
    )
    protect_main_session: bool = Field(
        False,
        description="Whether the main sessions of bots refuse every reset, as persistent sessions do. "
        "They are never archived, deleted or expired in any case.",
    )
    named_sessions_enabled: bool = Field(
        True,
        description="Whether people may give labels to sessions. When off, sessions that have a label keep it and are "
        "used, renamed and protected as before; new labels are refused with NAMED_SESSIONS_DISABLED.",
    )
    max_named_sessions: int = Field(
        50,
        ge=0,
        description="Labelled sessions in use that one person may have; 0 for no cap. More are refused, none is "
        "evicted; archived and deleted ones do not count.",
    )
    idle_ttl_days: float = Field(
        0.0,
        ge=0,
        le=36_500,
        description="Days without activity after which a session is archived; 0 for never. "
        "Persistent, pinned and main sessions stay.",
    )
    expiry_warning_hours: float = Field(
        24.0, ge=0, le=8_760, description="Hours between the warning in a session's log and its archiving."
    )
    sweep_interval_s: float = Field(
        300.0, gt=0, le=86_400, description="Seconds between sweeps for expired and purgeable sessions."
    )
    bot_cache_s: float = Field(5.0, ge=0, le=300, description="Seconds for which a bot is remembered to exist.")
