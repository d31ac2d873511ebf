"""What an operator may set about the edge."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from chassis.settings import MobotSettings


class GatewaySettings(MobotSettings):
    """Variables of the gateway process: MOBOT_HOST and MOBOT_PORT, and MOBOT_GATEWAY_* for the rest."""

    host: str = Field("127.0.0.1", description="Address the gateway listens on.")
    port: int = Field(18789, ge=0, le=65535, description="Port the gateway listens on; 0 takes a free one.")

    gateway_apart: bool = Field(
        False,
        description="Run the gateway in a process of its own beside the core, as `mobot up --gateway-apart` does.",
    )
    gateway_default_bot: str = Field("main", description="Bot that keys without an agent belong to.")
    gateway_control_ui_dir: Path | None = Field(
        None, description="Directory of an installed OpenClaw Control UI to serve at / instead of the built-in page."
    )
    gateway_allowed_origins: tuple[str, ...] = Field(
        (), description="Origins of pages that may connect besides our own, like https://host:port; * allows all."
    )
    gateway_require_device: Literal["remote", "always", "never"] = Field(
        "remote",
        description="When a signed device identity is needed to be granted scopes: from other machines, always, never.",
    )
    gateway_trusted_proxies: str = Field(
        "127.0.0.1", description="Addresses whose X-Forwarded-For header is believed, with commas; * believes all."
    )

    gateway_preauth_timeout_s: float = Field(15.0, gt=0, description="Seconds a new socket may take to connect.")
    gateway_tick_interval_s: float = Field(15.0, gt=0, description="Seconds between two tick events.")
    gateway_ping_interval_s: float = Field(25.0, gt=0, description="Seconds between two WebSocket pings.")
    gateway_max_sockets: int = Field(10_000, ge=1, description="Sockets open at once; more are refused.")
    gateway_max_requests_per_socket: int = Field(
        64, ge=1, description="Requests of one socket worked on at once; more wait unread."
    )
    gateway_max_queued_frames: int = Field(
        20_000, ge=16, description="Frames waiting for one socket; a socket that falls behind further is closed."
    )
    gateway_max_wrong_tokens: int = Field(
        10, ge=1, description="Wrong tokens an address may send within a minute before it has to wait five."
    )
    gateway_limit_loopback: bool = Field(False, description="Whether wrong tokens from this machine count as well.")
    gateway_delta_interval_s: float = Field(
        0.05, ge=0, description="Least seconds between two delta events of one run; text in between is joined."
    )
