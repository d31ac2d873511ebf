"""Settings from the environment."""

import os
import re
import stat
from pathlib import Path

import pytest
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import SettingsConfigDict

from chassis.errors import FailedPrecondition, Unavailable
from chassis.settings import ChassisSettings, MobotSettings, SettingsError, load, root_token, run_main, write_reference


class KettleSettings(MobotSettings):
    model_config = SettingsConfigDict(env_prefix="MOBOT_KETTLE_")

    cups: int = Field(2, ge=1, le=9)
    lids: tuple[str, ...] = ("round",)
    prices: dict[str, int] = Field(default_factory=dict)
    notes: list[int] | None = None
    key: SecretStr | None = None
    shared: bool = Field(False, validation_alias="MOBOT_SHARED_SWITCH")


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch):
    for name in list(os.environ):
        if name.startswith("MOBOT_"):
            monkeypatch.delenv(name)


def test_defaults_need_no_environment():
    assert load(KettleSettings).cups == 2
    assert load(ChassisSettings).data_dir == Path("~/.mobot").expanduser()


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("MOBOT_KETTLE_CUPS", "3", "cups", 3),
        ("MOBOT_KETTLE_CUPS", "", "cups", 2),
        ("MOBOT_KETTLE_LIDS", "a, b,", "lids", ("a", "b")),
        ("MOBOT_KETTLE_LIDS", '["a,b"]', "lids", ("a,b",)),
        ("MOBOT_KETTLE_PRICES", "tea=1, milk=2", "prices", {"tea": 1, "milk": 2}),
        ("MOBOT_KETTLE_PRICES", '{"tea": 1}', "prices", {"tea": 1}),
        ("MOBOT_KETTLE_NOTES", "1,2", "notes", [1, 2]),
        ("MOBOT_SHARED_SWITCH", "on", "shared", True),
    ],
)
def test_a_variable_sets_its_field(monkeypatch, variable, text, field, value):
    monkeypatch.setenv(variable, text)
    assert getattr(load(KettleSettings), field) == value


@pytest.mark.parametrize(
    ("variable", "text", "problem"),
    [
        ("MOBOT_KETTLE_CUPS", "0", "MOBOT_KETTLE_CUPS=0: should be greater than or equal to 1"),
        ("MOBOT_KETTLE_CUPS", "two", "MOBOT_KETTLE_CUPS=two: should be a valid integer"),
        ("MOBOT_KETTLE_PRICES", "tea", "MOBOT_KETTLE_PRICES=tea: "),
        ("MOBOT_KETTLE_NOTES", "[1", "MOBOT_KETTLE_NOTES=[1: "),
        ("MOBOT_SHARED_SWITCH", "perhaps", "MOBOT_SHARED_SWITCH=perhaps: should be a valid boolean"),
        (
            "MOBOT_KETLE_CUPS",
            "1",
            "MOBOT_KETLE_CUPS: no mobot process reads this variable; did you mean MOBOT_KETTLE_CUPS?",
        ),
        ("MOBOT_DATADIR", "x", "MOBOT_DATADIR: no mobot process reads this variable; did you mean MOBOT_DATA_DIR?"),
    ],
)
def test_a_wrong_variable_is_named_with_its_rule(monkeypatch, variable, text, problem):
    monkeypatch.setenv(variable, text)
    with pytest.raises(SettingsError) as caught:
        load(KettleSettings)
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith(problem)


def test_all_problems_are_told_at_once(monkeypatch):
    monkeypatch.setenv("MOBOT_KETTLE_CUPS", "0")
    monkeypatch.setenv("MOBOT_KETTLE_LIDDS", "x")
    with pytest.raises(SettingsError) as caught:
        load(KettleSettings)
    assert len(caught.value.problems) == 2


def test_variables_of_other_processes_are_let_be(monkeypatch):
    monkeypatch.setenv("MOBOT_LOG_LEVEL", "debug")
    assert load(KettleSettings).cups == 2
    assert load(ChassisSettings).log_level == "DEBUG"


def test_service_links_of_kubernetes_are_let_be(monkeypatch):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("MOBOT_SESSION_SERVICE_HOST", "10.0.0.2")
    monkeypatch.setenv("MOBOT_SESSION_PORT_50051_TCP_ADDR", "10.0.0.2")
    assert load(KettleSettings).cups == 2


def test_a_secret_is_not_repeated_in_a_problem():
    class VaultSettings(MobotSettings):
        model_config = SettingsConfigDict(env_prefix="MOBOT_VAULT_")
        key: SecretStr = Field(SecretStr("long enough"), min_length=8)

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MOBOT_VAULT_KEY", "hunter2")
        with pytest.raises(SettingsError) as caught:
            load(VaultSettings)
    assert "hunter2" not in str(caught.value)


def test_settings_do_not_change():
    settings = KettleSettings()
    with pytest.raises(ValidationError):
        settings.cups = 3


def test_given_values_outrank_the_environment(monkeypatch):
    monkeypatch.setenv("MOBOT_KETTLE_CUPS", "3")
    assert KettleSettings(cups=4).cups == 4


def test_the_token_file_is_made_once_and_is_private(tmp_path):
    settings = ChassisSettings(data_dir=tmp_path / "new" / "data")
    token = root_token(settings)
    file = tmp_path / "new" / "data" / "token"
    assert len(token) >= 32
    assert root_token(settings) == token
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert [path.name for path in file.parent.iterdir()] == ["token"]


def test_a_given_token_outranks_the_file(tmp_path):
    (tmp_path / "token").write_text("from the file\n")
    assert root_token(ChassisSettings(data_dir=tmp_path)) == "from the file"
    assert root_token(ChassisSettings(data_dir=tmp_path, token=SecretStr("given"))) == "given"


def test_a_data_directory_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=r"MOBOT_DATA_DIR=.*cannot use the token file"):
        root_token(ChassisSettings(data_dir=tmp_path / "file"))


def test_an_empty_token_file_is_named(tmp_path):
    (tmp_path / "token").touch()
    with pytest.raises(SettingsError, match="is empty"):
        root_token(ChassisSettings(data_dir=tmp_path))


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (
            SettingsError("MOBOT_X=1: wrong", "MOBOT_Y=2: wrong"),
            2,
            "mobot: MOBOT_X=1: wrong\nmobot: MOBOT_Y=2: wrong\n",
        ),
        (FailedPrecondition("the port is taken"), 2, "mobot: the port is taken\n"),
        (Unavailable("the database does not answer"), 1, "mobot: the database does not answer\n"),
    ],
)
def test_a_process_that_cannot_start_says_why(capsys, error, code, line):
    def main():
        raise error

    with pytest.raises(SystemExit) as caught:
        run_main(main)
    assert caught.value.code == code
    assert capsys.readouterr().err == line


def test_a_process_exits_with_the_code_of_its_main():
    with pytest.raises(SystemExit) as caught:
        run_main(lambda: 3)
    assert caught.value.code == 3


def test_the_reference_lists_every_variable_with_its_default():
    reference = write_reference()
    assert "| `MOBOT_DATA_DIR` | `~/.mobot` | `Path` |" in reference
    assert "| `MOBOT_TRACE_EXPORTER` | `none` | `none \\| otlp \\| console` |" in reference


def test_the_reference_tells_each_variable_once_and_by_the_process_that_reads_it():
    reference = write_reference()
    variables = re.findall(r"^\| `(MOBOT_\w+)`", reference, re.MULTILINE)
    assert len(variables) == len(set(variables))
    gateway = reference.partition("## Gateway\n")[2].partition("\n## ")[0]
    assert "`MOBOT_PORT`" in gateway
    assert "`MOBOT_SESSION_PORT`" not in gateway
