"""The registry's settings: MOBOT_REGISTRY_* variables."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from chassis.settings import ListenSettings


class RegistrySettings(ListenSettings):
    """What the registry service needs to know besides `ChassisSettings`."""

    model_config = SettingsConfigDict(env_prefix="MOBOT_REGISTRY_")

    database_url: str | None = Field(
        None,
        description="Database of the registry: `sqlite:///path` or `postgresql://user@host/name`. "
        "Default: `registry.sqlite3` in the data directory.",
    )
    host: str = Field("127.0.0.1", description="Address the registry listens on.")
    port: int = Field(50051, ge=0, le=65535, description="TCP port of the registry; 0 takes any free one.")
    socket: Path | None = Field(None, description="Unix socket the registry listens on as well.")
    max_bots: int = Field(10_000, ge=1, description="Most bots the registry keeps, tombstones included.")
    lease_s: float = Field(15.0, ge=1, le=3600, description="Seconds a worker's lease lasts when it wishes nothing.")
    max_lease_s: float = Field(3600.0, ge=1, le=3600, description="Longest lease in seconds that a worker may have.")
    kept_changes: int = Field(100_000, ge=1, description="Changes kept for watches that resume.")
    poll_interval_s: float = Field(
        1.0, gt=0, le=60, description="Seconds between looks for changes that another replica made, or that are due."
    )
    public_url: str = Field("", description="Base address of this installation in agent cards. Empty: none is shown.")
    organization: str = Field("", description="Who runs this installation, in agent cards. Empty: nobody is named.")
