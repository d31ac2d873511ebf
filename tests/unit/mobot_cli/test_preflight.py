import socket

import pytest

from gateway.settings import GatewaySettings
from mobot_cli.layout import Layout
from mobot_cli.preflight import CannotStart, Listener, flag, listener, prepare, settle_ports


@pytest.mark.parametrize("text", ["x", "-1", "65536", "1.5", " 80", "²"])
def test_a_port_that_is_none_is_told_with_its_variable(text):
    with pytest.raises(CannotStart, match="MOBOT_PORT="):
        listener("gateway", "127.0.0.1", "MOBOT_PORT", 1, {"MOBOT_PORT": text})


def test_an_empty_port_counts_as_absent():
    assert listener("gateway", "127.0.0.1", "MOBOT_PORT", 18789, {"MOBOT_PORT": ""}).port == 18789


def test_one_port_for_two_processes_is_refused():
    listeners = [Listener("a", "127.0.0.1", 1, "MOBOT_A_PORT"), Listener("b", "127.0.0.1", 1, "MOBOT_B_PORT")]
    with pytest.raises(CannotStart):
        settle_ports(listeners)


def test_every_zero_becomes_a_port_of_its_own():
    wanted = [Listener(name, "127.0.0.1", 0, f"MOBOT_{name}_PORT") for name in "abcde"]
    settled = settle_ports(wanted)
    assert [each.process for each in settled] == list("abcde")
    assert len({each.port for each in settled} - {0}) == 5


def test_a_port_whose_connections_are_only_closing_is_free():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            accepted, _ = server.accept()
            accepted.close()  # the server's side closes first, so TIME_WAIT stays on its port
    settle_ports([Listener("a", "127.0.0.1", port, "MOBOT_A_PORT")])


def test_an_address_that_is_not_here_is_told():
    with pytest.raises(CannotStart, match=r"port 1234 on 192\.0\.2\.1"):
        settle_ports([Listener("a", "192.0.2.1", 1234, "MOBOT_A_PORT")])


def test_directories_are_made_for_the_user_alone(tmp_path):
    layout = Layout(tmp_path / "data")
    prepare(layout)
    assert [path.stat().st_mode & 0o777 for path in (layout.data_dir, layout.run_dir, layout.log_dir)] == [0o700] * 3
    assert {path.name for path in layout.data_dir.iterdir()} == {"run", "logs"}


@pytest.mark.parametrize(("text", "on"), [("true", True), ("1", True), ("ON", True), ("", False), ("no", False)])
def test_a_setting_is_on_or_off_in_the_words_that_the_processes_know(text, on, monkeypatch):
    assert flag("MOBOT_GATEWAY_APART", {"MOBOT_GATEWAY_APART": text}) is on
    monkeypatch.setenv("MOBOT_GATEWAY_APART", text)
    assert GatewaySettings().gateway_apart is on


def test_a_setting_that_is_neither_is_told_with_its_variable():
    with pytest.raises(CannotStart, match="MOBOT_GATEWAY_APART=perhaps"):
        flag("MOBOT_GATEWAY_APART", {"MOBOT_GATEWAY_APART": "perhaps"})
