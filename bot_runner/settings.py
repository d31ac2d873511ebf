"""What an operator may set about the runner."""

import platform
import re

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from chassis.settings import MobotSettings


class RunnerSettings(MobotSettings):
    """Variables MOBOT_RUNNER_*."""

    model_config = SettingsConfigDict(env_prefix="MOBOT_RUNNER_")

    worker_id: str = Field(
        "",
        pattern=r"^([A-Za-z0-9][A-Za-z0-9._:@+=~-]{0,127})?$",
        description="Name of this worker, the same after a restart. Default: `runner-` and the host's name.",
    )
    concurrency: int = Field(500, ge=1, le=10_000, description="Turns worked on at once, over all bots.")
    bots: tuple[str, ...] = Field((), description="Ids of the only bots to host; default: all with a brain of ours.")
    echo_word_delay_s: float = Field(
        0.03, ge=0, le=60, description="Pause before each word of an echo bot whose settings name none, in seconds."
    )

    host: str = Field("127.0.0.1", description="Address of /metrics and /healthz.")
    metrics_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="TCP port of /metrics and /healthz over HTTP; 0 takes any free one. Default: none.",
    )

    def worker(self) -> str:
        """The worker's id."""
        if self.worker_id:
            return self.worker_id
        host = re.sub(r"[^A-Za-z0-9._-]+|\.{2,}", "-", platform.node())[:100].strip("-.")
        return f"runner-{host}" if host else "runner"
