"""What the pages say about commands, variables, files and tests exists."""

import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from mobot_cli.app import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "clients").glob("*.md"),
        *(ROOT / "clients").glob("*/*.md"),
    ]
)

# Read by the compose file, to be passed on to PostgreSQL.
NOT_OF_A_PROCESS = {"MOBOT_DB_PASSWORD"}

page = pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def variables() -> set[str]:
    found = set()
    for entry in entry_points(group="mobot.settings"):
        settings = entry.load()
        found |= {f"{settings.model_config['env_prefix']}{name}".upper() for name in settings.model_fields}
    return found


def targets() -> set[str]:
    return set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_the_generated_pages_are_current():
    done = subprocess.run(
        [sys.executable, "scripts/write_docs.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_index_has_every_page():
    index = (ROOT / "docs/README.md").read_text()
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages <= set(re.findall(r"\(([a-z-]+\.md)\)", index))


@page
def test_every_variable_is_one_that_a_process_reads(path):
    named = set(re.findall(r"\bMOBOT_[A-Z0-9_]*[A-Z0-9]\b(?![_*])", path.read_text()))
    assert named - variables() - NOT_OF_A_PROCESS == set()


@page
def test_every_pattern_of_variables_fits_one(path):
    known = variables()
    for pattern in re.findall(r"\bMOBOT_(?:[A-Z0-9_]*\*)+[A-Z0-9_]*", path.read_text()):
        expression = re.compile(pattern.replace("*", "[A-Z0-9_]+"))
        assert any(expression.fullmatch(variable) for variable in known), pattern


@page
def test_every_make_target_exists(path):
    named = set(re.findall(r"(?:^|`)make ([a-z][\w-]*)", path.read_text(), re.MULTILINE))
    assert named - targets() == set()


@page
def test_every_subcommand_exists(path):
    blocks = re.findall(r"^```(?:sh|text)?\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", path.read_text())
    command = re.compile(r"(?:^|Next: |MOBOT_\w+=\S+ )\s*(?:\.venv/bin/)?mobot ([a-z]\w*)")
    named = {match[1] for line in lines if (match := command.search(line)) and "mobot is " not in line}
    assert named - set(COMMANDS) == set()


@page
def test_every_link_leads_to_a_file(path):
    prose = re.sub(r"`[^`\n]*`", "`code`", path.read_text())
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[\w-]+)?\)", prose):
        if "://" not in target:
            assert (path.parent / target).exists(), target


@page
def test_every_file_named_in_code_type_exists(path):
    folders = "tests|docs|deploy|scripts|protos|examples|benchmarks|chassis|gateway|mobot_cli|bot_sdk|\\w+_service"
    for name in re.findall(rf"`((?:{folders})/[\w./-]+\.(?:py|md|yaml|proto|sh|binpb))(?:::\w+)?`", path.read_text()):
        assert (ROOT / name).exists(), name


def test_every_guarantee_names_tests_that_exist():
    text = (ROOT / "docs/guarantees.md").read_text()
    sections = re.split(r"^## \d+\. ", text, flags=re.MULTILINE)[1:]
    assert len(sections) == 10
    for section in sections:
        named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", section)
        assert named, section.splitlines()[0]
        for file, test in named:
            source = (ROOT / file).read_text()
            assert not test or re.search(rf"def {test}\(", source), f"{file}::{test}"


def test_the_first_bot_of_the_guide_is_the_example():
    example = (ROOT / "examples/hello_bot.py").read_text().partition('"""\n\n')[2]
    assert f"```python\n{example}```" in (ROOT / "docs/bots.md").read_text()


def test_the_readme_says_how_to_run_and_how_to_test():
    text = (ROOT / "README.md").read_text()
    assert "make run" in text
    assert "make test" in text
