"""Facts about every file of the repository."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"][
    "packages"
]

# Where one machine keeps its things, and where packages come from here: neither is a fact about the project.
# The words are put together here so that this file passes its own search.
FOLDERS = ("wo" + "rk", "ro" + "ot")
HOSTS = ("py" + "pi[.]org", "npm" + "js", "python" + "hosted")
STRANGERS = re.compile(
    rf"(?<![\w.-])/(?:{'|'.join(FOLDERS)})/|{'|'.join(HOSTS)}|//[\w.-]*(?:artifactory|nexus|registry\.)"
)


def tracked() -> list[Path]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    paths = [Path(name) for name in done.stdout.split("\0") if name]
    return [path for path in paths if (ROOT / path).is_file()]


def hand_written_modules() -> list[Path]:
    return [
        path
        for path in tracked()
        if path.suffix == ".py" and path.parts[0] in {*PACKAGES, "scripts", "benchmarks", "examples"} - {"mobot"}
    ]


def test_every_module_says_what_it_is_for():
    silent = [
        str(path) for path in hand_written_modules() if not ast.get_docstring(ast.parse((ROOT / path).read_text()))
    ]
    assert silent == []


def test_there_is_no_drawer_for_everything():
    drawers = {"utils", "util", "helpers", "helper", "common", "misc", "base", "manager"}
    assert [str(path) for path in hand_written_modules() if {*path.parts[:-1], path.stem} & drawers] == []


def test_no_file_names_a_machine_or_a_package_host():
    found = []
    for path in tracked():
        try:
            text = (ROOT / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path}:{number}" for number, line in enumerate(text.splitlines(), 1) if STRANGERS.search(line)]
    assert found == []


@pytest.mark.parametrize(
    "path", [f"/{FOLDERS[0]}/x", f"see /{FOLDERS[1]}/.npmrc", "https://py" + "pi.org/simple", "registry.npm" + "js.org"]
)
def test_the_search_finds_what_it_looks_for(path):
    assert STRANGERS.search(path)


def test_nothing_is_committed_that_a_run_leaves_behind():
    folders = r"(^|/)(__pycache__|node_modules|\.venv|\.mypy_cache|\.pytest_cache)/"
    leftovers = re.compile(folders + r"|\.(pyc|sqlite3(-\w+)?|log)$")
    assert [str(path) for path in tracked() if leftovers.search(path.as_posix())] == []
