"""Runs the migrations on the connection that chassis.migrations opened."""

from chassis.migrations import run_env
from router_service.models import METADATA

run_env(METADATA)
