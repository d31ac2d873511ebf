"""The manifests: rendered, checked against the schema of Kubernetes, and against the code they start."""

import importlib
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES_VERSION = "1.37"


@pytest.fixture(scope="module")
def resources() -> list[dict]:
    rendered = subprocess.run(
        [str(Path(sys.executable).parent / "kubectl"), "kustomize", str(ROOT / "deploy/kubernetes/base")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return list(yaml.safe_load_all(rendered))


@pytest.fixture(scope="module")
def compose() -> dict:
    return yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())


def known_variables() -> dict[str, object]:
    """Every variable any process reads, with its default."""
    known = {}
    for entry in entry_points(group="mobot.settings"):
        settings = entry.load()
        prefix = settings.model_config["env_prefix"]
        for name, field in settings.model_fields.items():
            known[f"{prefix}{name}".upper()] = field.default
    return known


def deployments(resources) -> dict[str, dict]:
    return {each["metadata"]["name"]: each for each in resources if each["kind"] == "Deployment"}


def containers(resources) -> dict[str, dict]:
    return {name: each["spec"]["template"]["spec"]["containers"][0] for name, each in deployments(resources).items()}


def test_every_resource_fits_the_strict_schema(resources):
    for resource in resources:
        kubernetes_validate.validate(resource, KUBERNETES_VERSION, strict=True)


def test_there_is_a_deployment_for_every_process(resources):
    assert set(deployments(resources)) == {"registry", "session", "memory", "router", "gateway", "runner"}


def test_every_command_starts_a_module_that_exists(resources, compose):
    commands = [container["command"] for container in containers(resources).values()]
    commands += [each["command"] for each in compose["services"].values() if "command" in each]
    for command in commands:
        assert command[:2] == ["python", "-m"]
        assert hasattr(importlib.import_module(f"{command[2]}.__main__"), "main"), command


def test_every_variable_is_one_that_a_process_reads(resources, compose):
    known = known_variables()
    named = {variable["name"] for container in containers(resources).values() for variable in container["env"]}
    for service in compose["services"].values():
        named |= {name for name in service.get("environment", {}) if name.startswith("MOBOT_")}
    assert named <= set(known), named - set(known)


def test_every_port_is_the_default_of_the_code(resources):
    known = known_variables()
    for name, container in containers(resources).items():
        for port in container.get("ports", []):
            if port["name"] == "metrics":
                continue  # off by default
            variable = "MOBOT_PORT" if name == "gateway" else f"MOBOT_{name.upper()}_PORT"
            assert port["containerPort"] == known[variable], name


def test_what_prometheus_is_told_to_scrape_is_where_the_meters_are(resources):
    for name, deployment in deployments(resources).items():
        pod = deployment["spec"]["template"]
        container = pod["spec"]["containers"][0]
        variables = {variable["name"]: variable.get("value") for variable in container["env"]}
        port = pod["metadata"]["annotations"]["prometheus.io/port"]
        assert port == variables["MOBOT_PORT" if name == "gateway" else f"MOBOT_{name.upper()}_METRICS_PORT"], name
        assert int(port) in [each["containerPort"] for each in container["ports"]], name


def test_every_target_names_a_service_and_its_port(resources, compose):
    ports = {
        each["metadata"]["name"]: each["spec"]["ports"][0]["port"] for each in resources if each["kind"] == "Service"
    }
    targets = [
        variable["value"]
        for container in containers(resources).values()
        for variable in container["env"]
        if variable["name"].endswith("_TARGET")
    ]
    for service in compose["services"].values():
        targets += [value for name, value in service.get("environment", {}).items() if name.endswith("_TARGET")]
    assert targets
    for target in targets:
        name, port = re.fullmatch(r"dns:///([a-z]+):(\d+)", target).groups()
        assert ports[name] == int(port), target


def test_every_process_is_told_where_those_are_whom_it_calls(resources, compose):
    calls = {
        "session": {"registry"},
        "memory": {"registry"},
        "router": {"registry", "session"},
        "gateway": {"registry", "session", "memory", "router"},
        "runner": {"registry", "session", "memory", "router"},
    }
    for name, callees in calls.items():
        wanted = {f"MOBOT_{callee.upper()}_TARGET" for callee in callees}
        assert wanted <= {variable["name"] for variable in containers(resources)[name]["env"]}, name
        assert wanted <= compose["services"][name]["environment"].keys(), name


def test_nothing_runs_as_root_or_may_write_its_image_and_everything_has_bounds(resources):
    for name, deployment in deployments(resources).items():
        pod = deployment["spec"]["template"]["spec"]
        container = pod["containers"][0]
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}, name
        assert "memory" in container["resources"]["limits"], name
        assert pod["terminationGracePeriodSeconds"] > known_variables()["MOBOT_GRACE_S"], name


def test_every_service_is_probed_by_grpc_under_its_own_name(resources):
    for name in ("registry", "session", "memory", "router"):
        contract = importlib.import_module(f"mobot.{name}.v1.{name}_service_pb2")
        full_names = {service.full_name for service in contract.DESCRIPTOR.services_by_name.values()}
        container = containers(resources)[name]
        assert container["readinessProbe"]["grpc"]["service"] in full_names
        assert container["livenessProbe"]["grpc"]["port"] == container["ports"][0]["containerPort"]


def test_selectors_match_their_pods(resources):
    labels = [each["spec"]["template"]["metadata"]["labels"] for each in deployments(resources).values()]
    for service in (each for each in resources if each["kind"] == "Service"):
        assert any(service["spec"]["selector"].items() <= each.items() for each in labels), service["metadata"]["name"]


def test_the_image_copies_every_package_of_the_distribution():
    import tomllib

    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"][
        "packages"
    ]
    dockerfile = (ROOT / "deploy/Dockerfile").read_text()
    for package in packages:
        assert f"COPY {package} {package}\n" in dockerfile, package
