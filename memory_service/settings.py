"""The memory's settings: MOBOT_MEMORY_* variables."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from chassis.settings import MobotSettings


class MemorySettings(MobotSettings):
    """What the memory service needs to know besides `ChassisSettings`."""

    model_config = SettingsConfigDict(env_prefix="MOBOT_MEMORY_")

    database_url: str | None = Field(
        None,
        description="Database of the memory: `sqlite:///path` or `postgresql://user@host/name`. "
        "Default: `memory.sqlite3` in the data directory.",
    )
    host: str = Field("127.0.0.1", description="Address the memory listens on.")
    port: int = Field(50053, ge=0, le=65535, description="TCP port of the memory; 0 takes any free one.")
    socket: Path | None = Field(None, description="Unix socket the memory listens on as well.")
    max_memories: int = Field(1_000_000, ge=1, description="Most memories a bot may have, deleted ones included.")
    retention_days: float = Field(
        30.0, ge=0, le=36_500, description="Days that a deleted memory can be brought back before it is purged."
    )
    sweep_interval_s: float = Field(
        60.0,
        gt=0,
        le=86_400,
        description="Seconds between sweeps, which purge what has expired or was deleted long ago.",
    )
