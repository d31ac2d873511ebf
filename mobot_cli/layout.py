"""Where everything of one mobot lies: files, sockets, ports, computed alike by every process from its data directory.

Nothing here is created; `mobot up` creates, everybody else only looks.

Sockets are `<data_dir>/run/<service>.sock`. A Unix socket path must fit `sun_path` (108 bytes on Linux, 104
elsewhere), so for a data directory whose socket paths would exceed `SOCKET_PATH_LIMIT_BYTES` they lie in `<system
temp dir>/mobot-<uid>-<hash>/` instead, where the hash is of the resolved data directory: any process of the same user
finds the same place again without being told. That directory is 0700 and must belong to the user (`mobot up` refuses
it otherwise).

Imports only the standard library: the supervisor lives on it.
"""

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SERVICES = ("registry", "session", "memory", "router")
SOCKET_PATH_LIMIT_BYTES = 100
DEFAULT_DATA_DIR = "~/.mobot"
DEFAULT_HOST = "127.0.0.1"
DEFAULT_GATEWAY_PORT = 18789
DEFAULT_SERVICE_PORTS: Mapping[str, int] = {"registry": 50051, "session": 50052, "memory": 50053, "router": 50054}


@dataclass(frozen=True, slots=True)
class Layout:
    """The places of one data directory; `data_dir` is absolute."""

    data_dir: Path

    @property
    def run_dir(self) -> Path:
        """Where the sockets are."""
        longest = max(len(os.fsencode(self.data_dir / "run" / f"{service}.sock")) for service in SERVICES)
        if longest <= SOCKET_PATH_LIMIT_BYTES:
            return self.data_dir / "run"
        digest = hashlib.sha256(os.fsencode(self.data_dir)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"mobot-{os.getuid()}-{digest}"

    @property
    def log_dir(self) -> Path:
        return self.data_dir / "logs"

    @property
    def pid_file(self) -> Path:
        """Locked by the running supervisor, and holds its pid."""
        return self.data_dir / "mobot.pid"

    @property
    def children_lock(self) -> Path:
        """Locked as long as any child of any supervisor of this data directory lives."""
        return self.data_dir / "children.lock"

    @property
    def addresses_file(self) -> Path:
        """Where the running supervisor says on which TCP addresses its processes listen (instance.addresses)."""
        return self.run_dir / "addresses.json"

    @property
    def token_file(self) -> Path:
        return self.data_dir / "token"

    @property
    def demo_marker(self) -> Path:
        """Exists once the demo bots were made (or were not wanted), so that a deleted one never comes back."""
        return self.data_dir / "demo-bots"

    def socket(self, service: str) -> Path:
        return self.run_dir / f"{service}.sock"

    def target(self, service: str) -> str:
        """The gRPC target at which `service` answers on this machine."""
        return f"unix:{self.socket(service)}"

    def log_file(self, process: str) -> Path:
        return self.log_dir / f"{process}.log"


def layout_of(data_dir: str | os.PathLike[str] | None, environment: Mapping[str, str]) -> Layout:
    """The layout of `data_dir`, else of MOBOT_DATA_DIR, else of ~/.mobot."""
    chosen = data_dir or environment.get("MOBOT_DATA_DIR") or DEFAULT_DATA_DIR
    return Layout(Path(chosen).expanduser().absolute())
