"""Free ports on loopback."""

import socket
from collections.abc import Sequence


def free_ports(wanted: Sequence[str]) -> dict[str, int]:
    """A port for each name; held together until all are chosen, so that no two are the same."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in wanted]
    try:
        return {name: each.getsockname()[1] for name, each in zip(wanted, held, strict=True)}
    finally:
        for each in held:
            each.close()
