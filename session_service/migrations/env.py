"""Runs the migrations on the connection that chassis.migrations opened."""

from chassis.migrations import run_env
from session_service.models import METADATA

run_env(METADATA)
