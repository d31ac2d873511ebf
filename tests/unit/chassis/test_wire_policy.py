"""Policies are data that gRPC understands and the contracts know."""

import importlib
import json

import pytest

from chassis import policy

_SERVICES = ("registry", "session", "router", "memory")


def _methods(service):
    module = importlib.import_module(f"mobot.{service}.v1.{service}_service_pb2")
    found = module.DESCRIPTOR.services_by_name[f"{service.capitalize()}Service"]
    return {method.name: method for method in found.methods}


def test_every_row_names_a_unary_method_of_the_contracts():
    methods = {service: _methods(service) for service in _SERVICES}
    for key in policy.DEFAULT:
        full_name, _, name = key.lstrip("/").partition("/")
        service = full_name.split(".")[1]
        assert policy.full_service_name(service) == full_name
        assert name in methods[service], key
        assert not methods[service][name].client_streaming, key
        assert not methods[service][name].server_streaming, key


def test_a_retried_write_carries_an_identity_of_its_own():
    reads = ("Get", "List", "BatchGet", "Resolve", "Search")
    writes = {
        key.rpartition("/")[2]
        for key, row in policy.DEFAULT.items()
        if row.retries and not key.rpartition("/")[2].startswith(reads)
    }
    # Events have deterministic ids: a repeated append is answered, not doubled.
    assert writes == {"AppendEvents", "BatchAppendEvents"}


def test_a_method_s_own_row_wins_over_its_service_s():
    rows = {
        "a.Service": policy.MethodPolicy(timeout_s=1),
        "/a.Service/Slow": policy.MethodPolicy(timeout_s=60),
    }
    assert policy.policy_for("/a.Service/Slow", rows).timeout_s == 60
    assert policy.policy_for("/a.Service/Quick", rows).timeout_s == 1
    assert policy.policy_for("/b.Service/Other", rows) is policy.FALLBACK


def test_every_unary_call_has_a_deadline():
    assert policy.FALLBACK.timeout_s is not None
    assert all(row.timeout_s is not None for row in policy.DEFAULT.values())


def test_the_service_config_retries_only_unavailable_and_only_what_is_listed():
    rows = {
        "/a.Service/Read": policy.MethodPolicy(retries=3),
        "/a.Service/Write": policy.MethodPolicy(),
        "/b.Service/Read": policy.MethodPolicy(retries=3),
    }
    config = json.loads(policy.service_config_json("a.Service", policies=rows, round_robin=True))
    assert config["loadBalancingConfig"] == [{"round_robin": {}}]
    (only,) = config["methodConfig"]
    assert only["name"] == [{"service": "a.Service", "method": "Read"}]
    assert only["retryPolicy"]["maxAttempts"] == 4
    assert only["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]


@pytest.mark.parametrize("service", _SERVICES)
def test_grpc_allows_no_more_than_five_attempts(service):
    config = json.loads(policy.service_config_json(policy.full_service_name(service)))
    assert config["methodConfig"]
    assert all(row["retryPolicy"]["maxAttempts"] <= 5 for row in config["methodConfig"])
