"""Writes the pages of docs/ that are made from the code; with --check only says whether they are current."""

import sys
from collections.abc import Sequence
from pathlib import Path

from api_reference import write_reference as write_api_reference

from chassis.settings import write_reference

ROOT = Path(__file__).resolve().parents[1]

SETTINGS = """# Settings

Every process is configured by `MOBOT_*` variables and by nothing else. A variable that no process reads, or a value
that breaks its rule, is an error at start (exit code 2) that names the variable; an empty variable counts as absent.
Lists are written with commas, `a,b`. `mobot doctor` checks them without starting anything.

This page is made from the code by `make docs`.

"""


def pages() -> dict[Path, str]:
    """Each generated page with what belongs in it."""
    api = write_api_reference(ROOT / "protos")
    return {
        ROOT / "docs/settings.md": SETTINGS + write_reference(),
        **{ROOT / "docs/api" / name: text for name, text in api.items()},
    }


def main(arguments: Sequence[str]) -> int:
    current = pages()
    stale = [path for path, text in current.items() if not path.exists() or path.read_text() != text]
    if "--check" in arguments:
        for path in stale:
            sys.stderr.write(f"{path.relative_to(ROOT)} is not what the code says; run `make docs`\n")
        return 1 if stale else 0
    for path in stale:
        path.parent.mkdir(exist_ok=True)
        path.write_text(current[path])
        sys.stderr.write(f"wrote {path.relative_to(ROOT)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
