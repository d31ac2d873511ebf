"""The calls that answer UNIMPLEMENTED, in one place: an issue that implements one takes it off this list."""

import importlib

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


@pytest.mark.parametrize("service", CONTRACTS)
def test_exactly_the_listed_calls_are_left_to_the_generated_base_class(service):
    contract = importlib.import_module(f"mobot.{service}.v1.{service}_service_pb2")
    stubs = importlib.import_module(f"mobot.{service}.v1.{service}_service_pb2_grpc")
    base = getattr(stubs, f"{CONTRACTS[service]}Servicer")
    servicer = next(
        value
        for value in vars(importlib.import_module(f"{service}_service.servicer")).values()
        if isinstance(value, type) and issubclass(value, base) and value is not base
    )
    calls = [method.name for method in contract.DESCRIPTOR.services_by_name[CONTRACTS[service]].methods]
    left = {call for call in calls if getattr(servicer, call) is getattr(base, call)}
    assert left == UNIMPLEMENTED[service]
