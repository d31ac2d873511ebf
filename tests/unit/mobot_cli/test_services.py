"""Failures of services as a person reads them."""

import pytest
import typer

from chassis.errors import NotFound, Unavailable
from mobot_cli.services import readable, run


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            Unavailable(
                "failed to connect to all addresses; last error: FAILED_PRECONDITION: unix:/home/ada/session.sock: "
                "connect failed: No such file or directory"
            ),
            "nothing answers at unix:/home/ada/session.sock",
        ),
        (
            Unavailable(
                "connections to all backends failing; last error: UNKNOWN: ipv4:127.0.0.1:50052: "
                "Failed to connect to remote host: Connection refused"
            ),
            "nothing answers at 127.0.0.1:50052",
        ),
        (Unavailable("the server is draining"), "the server is draining"),
        (NotFound("no such session"), "no such session"),
    ],
)
def test_a_service_that_is_not_there_is_named_by_its_address(error, said):
    assert readable(error) == said


@pytest.mark.parametrize(("reason", "hinted"), [("", True), ("DRAINING", True), ("EMBEDDER_UNAVAILABLE", False)])
def test_who_was_answered_is_not_asked_whether_mobot_runs(monkeypatch, capsys, tmp_path, reason, hinted):
    async def command(_services):
        raise Unavailable("not now", reason=reason)

    monkeypatch.setenv("MOBOT_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("MOBOT_TOKEN", "secret")
    with pytest.raises(typer.Exit):
        run(command)
    said = capsys.readouterr().err
    assert ("Is mobot running?" in said, f"reason: {reason}" in said) == (hinted, not hinted)
