from pathlib import Path

import pytest

from mobot_cli import processes
from mobot_cli.layout import Layout
from mobot_cli.settings import CliSettings

LAYOUT = Layout(Path("/data"))


def children(*, isolated=False, gateway_apart=False, **environment):
    ports = processes.listeners(port=None, environment=environment)
    found = processes.children(LAYOUT, ports, isolated=isolated, gateway_apart=gateway_apart, environment=environment)
    return {child.name: child for child in found}


def test_the_default_layout_is_two_processes_the_gateway_may_be_a_third_and_the_isolated_one_is_six():
    assert list(children()) == ["core", "runner"]
    assert list(children(gateway_apart=True)) == ["core", "gateway", "runner"]
    for gateway_apart in (False, True):
        found = children(isolated=True, gateway_apart=gateway_apart)
        assert list(found) == ["registry", "session", "memory", "router", "gateway", "runner"]


@pytest.mark.parametrize("gateway_apart", [True, False])
def test_the_core_is_told_whether_the_gateway_is_its_own_to_serve(gateway_apart):
    core = children(gateway_apart=gateway_apart)["core"]
    assert core.environment["MOBOT_GATEWAY_APART"] == str(gateway_apart).lower()
    assert ("MOBOT_PORT" in core.hidden) is gateway_apart
    assert ("MOBOT_PORT" in core.environment) is not gateway_apart


def test_callers_are_told_the_sockets_on_which_the_services_listen():
    found = children(isolated=True)
    for service in ("registry", "session", "memory", "router"):
        listens = found[service].environment[f"MOBOT_{service.upper()}_SOCKET"]
        assert listens == f"/data/run/{service}.sock"
        for caller in ("gateway", "runner", "router"):
            assert found[caller].environment[f"MOBOT_{service.upper()}_TARGET"] == f"unix:{listens}"


def test_a_socket_or_target_of_the_environment_is_kept():
    found = children(isolated=True, MOBOT_MEMORY_SOCKET="/run/m.sock", MOBOT_ROUTER_TARGET="router:50054")
    assert found["memory"].environment["MOBOT_MEMORY_SOCKET"] == "/run/m.sock"
    assert found["runner"].environment["MOBOT_MEMORY_TARGET"] == "unix:/run/m.sock"
    assert found["runner"].environment["MOBOT_ROUTER_TARGET"] == "router:50054"


def test_a_process_is_not_shown_where_others_listen():
    gateway = children(gateway_apart=True, MOBOT_REGISTRY_PORT="1")["gateway"]
    assert "MOBOT_REGISTRY_PORT" in gateway.hidden
    assert "MOBOT_PORT" not in gateway.hidden


def test_the_flag_wins_over_the_port_of_the_environment():
    gateway, *_ = processes.listeners(port=5, environment={"MOBOT_PORT": "6"})
    assert (gateway.port, gateway.host) == (5, "127.0.0.1")


def test_the_edge_stops_before_the_router_and_the_router_before_the_rest():
    stages = {name: child.stop_stage for name, child in children(isolated=True).items()}
    assert stages["gateway"] == stages["runner"] < stages["router"] < stages["session"] == stages["registry"]


@pytest.mark.parametrize("set_one", [True, False])
def test_commands_dial_the_sockets_of_the_data_directory_unless_told_otherwise(monkeypatch, set_one):
    monkeypatch.setenv("MOBOT_DATA_DIR", "/data")
    if set_one:
        monkeypatch.setenv("MOBOT_ROUTER_TARGET", "router:50054")
    targets = CliSettings().targets()
    assert targets["router"] == ("router:50054" if set_one else "unix:/data/run/router.sock")
    assert targets["session"] == "unix:/data/run/session.sock"
