"""The calls that answer UNIMPLEMENTED, in one place: an issue that implements one takes it off this list."""

import importlib
import pkgutil

import pytest

UNIMPLEMENTED: dict[str, set[str]] = {
    "registry": set(),
    "session": set(),
    "memory": set(),
    "router": set(),
}
CONTRACTS = {
    "registry": "RegistryService",
    "session": "SessionService",
    "memory": "MemoryService",
    "router": "RouterService",
}


def descendants(kind):
    """The classes below `kind` that nothing else of ours extends: the ones that are served."""
    below = kind.__subclasses__()
    return [last for each in below for last in (descendants(each) or [each])]


@pytest.mark.parametrize("service", CONTRACTS)
def test_exactly_the_listed_calls_are_left_to_the_generated_base_class(service):
    contract = importlib.import_module(f"mobot.{service}.v1.{service}_service_pb2")
    stubs = importlib.import_module(f"mobot.{service}.v1.{service}_service_pb2_grpc")
    base = getattr(stubs, f"{CONTRACTS[service]}Servicer")
    package = importlib.import_module(f"{service}_service")
    for module in pkgutil.walk_packages(package.__path__, f"{service}_service."):
        if ".servicer" in module.name:
            importlib.import_module(module.name)
    (servicer,) = {each for each in descendants(base) if each.__module__.startswith(f"{service}_service.")}
    calls = [method.name for method in contract.DESCRIPTOR.services_by_name[CONTRACTS[service]].methods]
    left = {call for call in calls if getattr(servicer, call) is getattr(base, call)}
    assert left == UNIMPLEMENTED[service]
