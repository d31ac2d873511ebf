"""The unmodified OpenClaw command line, installed from npm once and run with a home of its own."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import Finished, Mobot, clean_environment, run_command

from benchmarks.openclaw_peer import Installation


@dataclass(frozen=True)
class StockClient:
    """`openclaw` pointed at one mobot."""

    installation: Installation
    home: Path
    mobot: Mobot

    @property
    def environment(self) -> dict[str, str]:
        self.home.mkdir(parents=True, exist_ok=True)
        path = f"{self.installation.node.parent}:{clean_environment(self.home)['PATH']}"
        return {**clean_environment(self.home), "PATH": path, "OPENCLAW_STATE_DIR": str(self.home / ".openclaw")}

    def configure(self) -> None:
        """Writes the remote gateway into the client's configuration, for commands that take no --url."""
        state = self.home / ".openclaw"
        state.mkdir(parents=True, exist_ok=True)
        remote = {"url": self.mobot.url, "token": self.mobot.token}
        (state / "openclaw.json").write_text(json.dumps({"gateway": {"mode": "remote", "remote": remote}}))

    def run(self, *arguments: str) -> Finished:
        """A command that finds the gateway in the configuration."""
        command = [str(self.installation.node), str(self.installation.program), *arguments]
        return run_command(command, self.environment, timeout_s=60)

    def command(self, *arguments: str, token: str | None = None) -> list[str]:
        where = ["--url", self.mobot.url, "--token", self.mobot.token if token is None else token]
        return [str(self.installation.node), str(self.installation.program), *arguments, *where]

    def call(self, method: str, **params: object) -> Any:
        """The payload of `openclaw gateway call METHOD`; it must succeed."""
        done = self.try_call(method, **params)
        assert done.code == 0, done.said
        return json.loads(done.out)

    def try_call(self, method: str, *, token: str | None = None, **params: object) -> Finished:
        command = self.command("gateway", "call", method, token=token)
        return run_command([*command, "--params", json.dumps(params), "--json"], self.environment)
