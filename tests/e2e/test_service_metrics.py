"""The meters of services and the runner in processes of their own, read over HTTP as Prometheus reads them."""

import contextlib
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from harness import SERVICES, STOP_PATIENCE_S, clean_environment, free_ports, wait_for

pytestmark = pytest.mark.e2e

OWN_METERS = {
    "registry": "rpc_server_active",
    "session": "session_index_backlog",
    "memory": "memory_vector_backlog",
    "router": "mail_in_flight",
    "runner": "bot_turn_seconds_count",
}
PROCESSES = (*SERVICES, "runner")


def read(port: int, path: str, **headers: str) -> tuple[int, str]:
    """Status and body; (0, "") when nobody answers."""
    try:
        with urllib.request.urlopen(
            urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers), timeout=30
        ) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


def test_every_process_shows_its_meters_to_whoever_has_the_token(tmp_path: Path):
    ports = free_ports(PROCESSES)
    shared = {
        **clean_environment(tmp_path),
        "MOBOT_DATA_DIR": str(tmp_path / "data"),
        "MOBOT_METRICS_TOKEN": "to-scrape",
        **{f"MOBOT_{service.upper()}_TARGET": f"unix:{tmp_path}/nowhere" for service in SERVICES},
    }
    started: list[subprocess.Popen[bytes]] = []
    with contextlib.ExitStack() as ended:
        for service in PROCESSES:
            own = {f"MOBOT_{service.upper()}_METRICS_PORT": str(ports[service])}
            if service != "runner":
                own[f"MOBOT_{service.upper()}_PORT"] = "0"
            with (tmp_path / f"{service}.log").open("wb") as log:
                command = [sys.executable, "-m", "bot_runner" if service == "runner" else f"{service}_service"]
                process = subprocess.Popen(command, env={**shared, **own}, stdout=log, stderr=log)
            ended.callback(process.wait)
            ended.callback(process.kill)
            started.append(process)
        for service, port in ports.items():
            meter = OWN_METERS[service]
            authorized = {"authorization": "Bearer to-scrape"}
            wait_for(lambda: meter in read(port, "/metrics", **authorized)[1], f"{service}'s {meter}", 60)  # noqa: B023
            assert read(port, "/metrics")[0] == 401
            assert read(port, "/healthz") == (200, "ok\n")
        for process in started:
            process.send_signal(signal.SIGTERM)
        assert [process.wait(STOP_PATIENCE_S) for process in started] == [0] * len(PROCESSES)
