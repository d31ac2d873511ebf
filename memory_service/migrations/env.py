"""Runs the migrations against the memory's tables."""

from chassis.migrations import run_env
from memory_service.models import METADATA

run_env(METADATA)
