"""Facts about the contracts and the generated code that must stay true."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from chassis import errors

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("registry", "session", "memory", "router")
CHASSIS_REASONS = {
    "UNAUTHENTICATED",
    "CALLER_NOT_ALLOWED",
    "FIELD_INVALID",
    "PAGE_TOKEN_INVALID",
    "REQUEST_ID_REUSED",
    "RESOURCE_NAME_INVALID",
    "QUEUE_FULL",
    "DRAINING",
    "SCHEMA_STALE",
    "INTERNAL_ERROR",
    "METHOD_UNIMPLEMENTED",
}


def reasons_in_contract(service: str) -> set[str]:
    module = importlib.import_module(f"mobot.{service}.v1.error_reason_pb2")
    return {name.removeprefix("ERROR_REASON_") for name in module.ErrorReason.keys()} - {"UNSPECIFIED"}  # noqa: SIM118


def reasons_in_code(package: str) -> set[str]:
    """The `reason` of every error class, and of every error made with one of its own."""
    found: set[str] = set()
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            values: list[ast.expr | None] = []
            if isinstance(node, ast.ClassDef):
                for line in node.body:
                    targets = line.targets if isinstance(line, ast.Assign) else [getattr(line, "target", None)]
                    if any(isinstance(target, ast.Name) and target.id == "reason" for target in targets):
                        values.append(getattr(line, "value", None))
            elif isinstance(node, ast.Call):
                values.extend(keyword.value for keyword in node.keywords if keyword.arg == "reason")
            found.update(
                value.value
                for value in values
                if isinstance(value, ast.Constant) and isinstance(value.value, str) and value.value.isupper()
            )
    return found


def test_the_generated_code_is_what_the_contracts_generate():
    done = subprocess.run(
        [sys.executable, "scripts/generate_protos.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("service", SERVICES)
def test_every_contract_holds_the_reasons_that_the_chassis_raises(service):
    assert reasons_in_contract(service) >= CHASSIS_REASONS


@pytest.mark.parametrize("service", SERVICES)
def test_every_reason_in_a_services_code_stands_in_its_contract(service):
    assert reasons_in_code(f"{service}_service") <= reasons_in_contract(service)


def test_every_reason_in_the_chassis_is_a_shared_one():
    assert reasons_in_code("chassis") <= CHASSIS_REASONS | {"PORT_IN_USE", "STORE_LOCKED", "STORE_UNAVAILABLE"}


def test_every_error_class_has_a_canonical_code():
    for kind in errors.AppError.__subclasses__():
        assert re.fullmatch(r"[A-Z_]+", kind.code), kind


def test_generated_code_needs_no_newer_runtime_than_the_project_promises():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    floor = next(line for line in project["dependencies"] if line.startswith("protobuf"))
    promised = tuple(int(part) for part in re.search(r">=([\d.]+)", floor).group(1).split("."))
    stamped = set()
    for path in (ROOT / "mobot").rglob("*_pb2.py"):
        stamped.update(re.findall(r"Protobuf Python Version: ([\d.]+)", path.read_text()))
    assert stamped
    assert max(tuple(int(part) for part in each.split(".")) for each in stamped) <= promised


def test_nothing_hand_written_lives_beside_the_generated_code():
    strangers = [
        path
        for path in (ROOT / "mobot").rglob("*")
        if path.is_file()
        and "__pycache__" not in path.parts
        and not re.search(r"_pb2(_grpc)?\.pyi?$|^__init__\.py$", path.name)
    ]
    assert strangers == []


def test_the_fake_server_of_grpc_testing_is_used_by_the_bridge_alone():
    """It reports an `async def` handler as OK without running it (grpc/grpc#24942)."""
    users = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests").rglob("*.py")
        if "server_from_dictionary" in path.read_text() and path != Path(__file__)
    ]
    assert users in ([], ["tests/contract/aio_bridge.py"])
