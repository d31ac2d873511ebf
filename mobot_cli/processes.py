"""Which processes `mobot up` runs in each layout, and which TCP addresses they want."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass

from mobot_cli.child import ChildSpec
from mobot_cli.layout import DEFAULT_GATEWAY_PORT, DEFAULT_HOST, DEFAULT_SERVICE_PORTS, SERVICES, Layout
from mobot_cli.preflight import Listener, listener
from mobot_cli.ready import HttpProbe

# Edge first, so that nobody starts new work; then whoever calls the others (router -> session -> registry).
_EDGE, _ROUTER, _SERVICES = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Plan:
    """All that one start needs to know."""

    children: tuple[ChildSpec, ...]
    listeners: tuple[Listener, ...]


def plan(layout: Layout, *, isolated: bool, port: int | None, environment: Mapping[str, str]) -> Plan:
    """The processes of the default layout (core, gateway, runner), or with `isolated` one process per service.

    Raises:
        CannotStart: a port setting is not a port.
    """
    gateway = _gateway_listener(port, environment)
    services = tuple(
        listener(
            service,
            environment.get(f"MOBOT_{service.upper()}_HOST") or DEFAULT_HOST,
            f"MOBOT_{service.upper()}_PORT",
            DEFAULT_SERVICE_PORTS[service],
            environment,
        )
        for service in SERVICES
    )
    edge = (
        _child(
            layout,
            "gateway",
            "gateway",
            _EDGE,
            {"MOBOT_PORT": str(gateway.port)} if port is not None else {},
            HttpProbe("gateway", gateway.host, gateway.port),
        ),
        _child(layout, "runner", "bot_runner", _EDGE),
    )
    if isolated:
        stages = {"router": _ROUTER}
        hosts = tuple(
            _child(layout, service, f"{service}_service", stages.get(service, _SERVICES)) for service in SERVICES
        )
    else:
        hosts = (_child(layout, "core", "mobot_cli.core", _SERVICES),)
    return Plan((*hosts, *edge), (gateway, *services))


def _gateway_listener(port: int | None, environment: Mapping[str, str]) -> Listener:
    host = environment.get("MOBOT_HOST") or DEFAULT_HOST
    if port is not None:
        return Listener("gateway", host, port, "MOBOT_PORT")
    return listener("gateway", host, "MOBOT_PORT", DEFAULT_GATEWAY_PORT, environment)


def _child(
    layout: Layout,
    name: str,
    module: str,
    stop_stage: int,
    environment: Mapping[str, str] | None = None,
    probe: HttpProbe | None = None,
) -> ChildSpec:
    return ChildSpec(
        name=name,
        command=python(module),
        log_file=layout.log_file(name),
        stop_stage=stop_stage,
        environment={"MOBOT_DATA_DIR": str(layout.data_dir), **(environment or {})},
        probe=probe,
    )


def python(module: str) -> tuple[str, ...]:
    """The command that runs `module` with this interpreter.

    -P: a folder called `gateway` or a file `token.py` where the user happens to stand must not be imported.
    """
    return (sys.executable, "-P", "-m", module)
