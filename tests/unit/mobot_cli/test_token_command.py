"""`mobot token`."""

import pytest
from typer.testing import CliRunner

from chassis.errors import Unauthenticated
from chassis.identity import Authenticator
from mobot_cli.app import app


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.setenv("MOBOT_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("MOBOT_TOKEN", "the root secret of a test")
    return lambda *arguments: CliRunner().invoke(app, ["token", *arguments])


def test_it_prints_the_root_token(run):
    assert run().stdout == "the root secret of a test\n"


def test_a_bots_token_acts_for_that_bot_only(run):
    token = run("main").stdout.strip()
    caller = Authenticator("the root secret of a test").authenticate({"authorization": f"Bearer {token}"})
    assert (caller.actor, caller.root) == ("bots/main", False)
    with pytest.raises(Unauthenticated):
        Authenticator("another secret").authenticate({"authorization": f"Bearer {token}"})


def test_a_workers_token_is_the_workers(run):
    token = run("--worker", "desk-1").stdout.strip()
    caller = Authenticator("the root secret of a test").authenticate({"authorization": f"Bearer {token}"})
    assert (caller.actor, caller.root) == ("workers/desk-1", False)


def test_a_token_is_for_one(run):
    refused = run("main", "--worker", "desk-1")
    assert refused.exit_code == 2
    assert "not for both" in refused.output


def test_a_name_that_is_none_is_refused(run):
    refused = run("../x")
    assert refused.exit_code == 1
    assert "bot" in refused.stderr
