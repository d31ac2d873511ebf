"""Runs the migrations of the notes."""

from chassis.migrations import run_env
from notes_service.models import METADATA

run_env(METADATA)
