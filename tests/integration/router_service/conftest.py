"""The world of the router's contract tests, on both engines."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "contract" / "router_service"))
