"""Runs the migrations against the registry's tables."""

from chassis.migrations import run_env
from registry_service.models import RegistryTable

run_env(RegistryTable.metadata)
