"""Which processes `mobot up` runs in each layout, on which TCP addresses, and how they find each other."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mobot_cli.child import ChildSpec
from mobot_cli.layout import DEFAULT_GATEWAY_PORT, DEFAULT_HOST, DEFAULT_SERVICE_PORTS, SERVICES, Layout
from mobot_cli.preflight import Listener, listener
from mobot_cli.ready import HttpProbe

# Edge first, so that nobody starts new work; then whoever calls the others (router -> session -> registry).
_EDGE, _ROUTER, _SERVICES = 0, 1, 2


def listeners(*, port: int | None, environment: Mapping[str, str]) -> tuple[Listener, ...]:
    """The gateway and the four services, as the flag `port` and the settings want them.

    Raises:
        CannotStart: a setting is not a port.
    """
    wanted = environment if port is None else {**environment, "MOBOT_PORT": str(port)}
    return (
        listener("gateway", _host("MOBOT_HOST", environment), "MOBOT_PORT", DEFAULT_GATEWAY_PORT, wanted),
        *(
            listener(
                service,
                _host(f"MOBOT_{service.upper()}_HOST", environment),
                f"MOBOT_{service.upper()}_PORT",
                DEFAULT_SERVICE_PORTS[service],
                environment,
            )
            for service in SERVICES
        ),
    )


def children(
    layout: Layout,
    ports: Sequence[Listener],
    *,
    isolated: bool,
    gateway_apart: bool,
    environment: Mapping[str, str],
) -> tuple[ChildSpec, ...]:
    """The processes of the default layout: the core, which holds the gateway too, and the runner.

    With `gateway_apart` the gateway is a process of its own, with `isolated` each service is one as well.

    Each is told by its environment where it listens and where it finds the others, and is not shown where others
    listen: a variable of somebody else's makes a process load all settings classes at start, to tell it from a
    misspelt one.
    """
    by_process = {each.process: each for each in ports}
    listening = frozenset(each.variable for each in ports)
    found = targets(layout, environment)
    gateway = by_process["gateway"]

    def child(name: str, module: str, stop_stage: int, said: Mapping[str, str]) -> ChildSpec:
        said = {**_always(layout, environment), **said}
        return ChildSpec(name, python(module), layout.log_file(name), stop_stage, said, listening - said.keys())

    def ports_of(*processes: str) -> Mapping[str, str]:
        return {by_process[process].variable: str(by_process[process].port) for process in processes}

    stages = {"router": _ROUTER}
    calls_others = {"router", "session"}
    if isolated:
        hosts = tuple(
            child(
                service,
                f"{service}_service",
                stages.get(service, _SERVICES),
                {
                    **ports_of(service),
                    f"MOBOT_{service.upper()}_SOCKET": _socket(service, layout, environment),
                    **(found if service in calls_others else {}),
                },
            )
            for service in SERVICES
        )
    else:
        within = SERVICES if gateway_apart else (*SERVICES, "gateway")
        said = {**ports_of(*within), "MOBOT_GATEWAY_APART": str(gateway_apart).lower()}
        hosts = (child("core", "mobot_cli.core", _SERVICES, said),)
    edge = child("gateway", "gateway", _EDGE, {**ports_of("gateway"), **found})
    runner = child("runner", "bot_runner", _EDGE, found)
    return (
        *hosts,
        *((replace(edge, probe=HttpProbe(gateway.host, gateway.port)),) if isolated or gateway_apart else ()),
        # It can do nothing before, and on few cores its imports would only slow those that everybody waits for.
        replace(runner, after=frozenset(host.name for host in hosts)),
    )


def demo(layout: Layout, environment: Mapping[str, str]) -> ChildSpec:
    """The one-shot that makes the demo bots."""
    said = {**_always(layout, environment), **targets(layout, environment)}
    return ChildSpec("demo", python("mobot_cli.demo"), layout.log_file("demo"), environment=said)


def targets(layout: Layout, environment: Mapping[str, str]) -> dict[str, str]:
    """The services' sockets as MOBOT_*_TARGET variables, as far as the environment does not say otherwise."""
    return {
        variable: environment.get(variable) or f"unix:{_socket(service, layout, environment)}"
        for service in SERVICES
        for variable in (f"MOBOT_{service.upper()}_TARGET",)
    }


def python(module: str) -> tuple[str, ...]:
    """The command that runs `module` with this interpreter.

    -P: a folder called `gateway` or a file `token.py` where the user happens to stand must not be imported.
    """
    return (sys.executable, "-P", "-m", module)


def _always(layout: Layout, environment: Mapping[str, str]) -> dict[str, str]:
    return {
        "MOBOT_DATA_DIR": str(layout.data_dir),
        # Each of gRPC's threads would otherwise get an arena of its own and keep what it once used.
        "MALLOC_ARENA_MAX": environment.get("MALLOC_ARENA_MAX", "2"),
    }


def _socket(service: str, layout: Layout, environment: Mapping[str, str]) -> str:
    return environment.get(f"MOBOT_{service.upper()}_SOCKET") or str(layout.socket(service))


def _host(variable: str, environment: Mapping[str, str]) -> str:
    return environment.get(variable) or DEFAULT_HOST
