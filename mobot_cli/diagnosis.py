"""The checks of `mobot doctor`, each with what to do when it fails."""

import asyncio
import os
import shutil
import stat
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from chassis.channel import Dialer
from chassis.policy import full_service_name
from chassis.settings import SettingsError, load, root_token
from chassis.status import from_rpc_error
from gateway.settings import GatewaySettings
from mobot.registry.v1 import registry_service_pb2, registry_service_pb2_grpc
from mobot_cli.instance import addresses, running_pid
from mobot_cli.layout import SERVICES, Layout
from mobot_cli.services import readable
from mobot_cli.settings import CliSettings

_LEAST_FREE_BYTES = 500_000_000
_PROBE_S = 3.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was looked at, whether it is well, and what was seen or should be done."""

    check: str
    ok: bool
    detail: str

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def examine() -> list[Finding]:
    """Every check, in an order in which an earlier failure explains later ones."""
    findings = [_python()]
    try:
        settings = load(CliSettings)
        gateway = load(GatewaySettings)
    except SettingsError as error:
        return [*findings, *(Finding("settings", False, problem) for problem in error.problems)]
    findings.append(Finding("settings", True, "every MOBOT_* variable is known and readable"))
    findings.extend(_data_directory(settings))
    pid = running_pid(Layout(settings.data_dir))
    if pid is None:
        findings.append(Finding("mobot up", False, f"not running on {settings.data_dir}; start it: mobot up"))
    else:
        findings.append(Finding("mobot up", True, f"running, pid {pid}"))
    findings.extend(asyncio.run(_services(settings)))
    findings.append(_gateway(gateway, addresses(Layout(settings.data_dir))))
    return findings


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", sys.version_info >= (3, 11), f"{version} at {sys.executable}")


def _data_directory(settings: CliSettings) -> Iterator[Finding]:
    directory = settings.data_dir
    if not directory.exists():
        yield Finding("data directory", False, f"{directory} does not exist yet; `mobot up` makes it")
        return
    writable = os.access(directory, os.W_OK | os.X_OK)
    yield Finding("data directory", writable, f"{directory}" + ("" if writable else " is not writable by this user"))
    free = shutil.disk_usage(directory).free
    yield Finding("disk", free >= _LEAST_FREE_BYTES, f"{free / 1e9:.1f} GB free; mobot refuses mail when none is left")
    token = directory / "token"
    if settings.token is not None:
        yield Finding("token", True, "from MOBOT_TOKEN")
    elif not token.exists():
        yield Finding("token", False, f"{token} does not exist; `mobot up` makes it")
    else:
        private = stat.S_IMODE(token.stat().st_mode) & 0o077 == 0
        yield Finding("token", private, str(token) + ("" if private else f" can be read by others: chmod 600 {token}"))


async def _services(settings: CliSettings) -> list[Finding]:
    try:
        token = root_token(settings, create=False)
    except SettingsError as error:
        return [Finding("token", False, problem) for problem in error.problems]
    dialer = Dialer(settings.targets(), token=token, actor="operators/root")
    try:
        findings = [await _health(dialer, settings, service) for service in SERVICES]
        if findings[0].ok:
            findings.append(await _bots(dialer))
    finally:
        await dialer.close()
    return findings


async def _health(dialer: Dialer, settings: CliSettings, service: str) -> Finding:
    target = settings.targets()[service]
    stub = health_pb2_grpc.HealthStub(dialer.dial(service))
    try:
        answer = await stub.Check(
            health_pb2.HealthCheckRequest(service=full_service_name(service)), timeout=_PROBE_S, wait_for_ready=False
        )
    except grpc.aio.AioRpcError as error:
        return Finding(f"{service} service", False, readable(from_rpc_error(error)))
    serving = answer.status == health_pb2.HealthCheckResponse.SERVING
    return Finding(f"{service} service", serving, target if serving else f"{target} answers but does not serve yet")


async def _bots(dialer: Dialer) -> Finding:
    stub = registry_service_pb2_grpc.RegistryServiceStub(dialer.dial("registry"))
    try:
        answer = await stub.ListBots(registry_service_pb2.ListBotsRequest(page_size=1000))
    except grpc.aio.AioRpcError as error:
        return Finding("bots", False, readable(from_rpc_error(error)))
    served = sum(1 for bot in answer.bots if bot.status.worker_count)
    return Finding(
        "bots", served > 0 or not answer.bots, f"{len(answer.bots)}, of which {served} are served by a worker"
    )


def _gateway(settings: GatewaySettings, running: Mapping[str, str]) -> Finding:
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "") else settings.host
    # A flag of `mobot up` may have chosen another port than the environment says.
    url = f"http://{running.get('gateway') or f'{host}:{settings.port}'}/readyz"
    try:
        with urllib.request.urlopen(url, timeout=_PROBE_S) as answer:
            return Finding("gateway", answer.status == 200, url)
    except urllib.error.HTTPError as error:
        return Finding("gateway", False, f"{url} answers {error.code}: {error.read(200).decode(errors='replace')}")
    except OSError as error:
        cause = getattr(error, "reason", error)
        return Finding("gateway", False, f"{url}: {getattr(cause, 'strerror', None) or cause}")
