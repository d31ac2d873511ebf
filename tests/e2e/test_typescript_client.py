"""The TypeScript client: what is committed is what the contracts generate, its types are sound, its example works."""

import filecmp
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from harness import SERVICES, Mobot, run_command

from benchmarks.openclaw_peer import cache, install_node

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
CLIENT = ROOT / "clients/typescript"
MANIFEST = ("package.json", "package-lock.json", ".npmrc")


@pytest.fixture(scope="module")
def node() -> Path:
    return install_node()


@pytest.fixture(scope="module")
def packages() -> Path:
    """The packages that the lock file names, installed from npm once for each of its versions."""
    key = hashlib.sha256(b"".join((CLIENT / name).read_bytes() for name in MANIFEST)).hexdigest()[:16]
    folder = cache() / f"typescript-client-{key}"
    if not (folder / "complete").exists():
        folder.mkdir(parents=True, exist_ok=True)
        for name in MANIFEST:
            shutil.copy(CLIENT / name, folder)
        npm = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        subprocess.run(npm, cwd=folder, check=True, stdout=subprocess.DEVNULL, timeout=200)
        (folder / "complete").touch()
    return folder / "node_modules"


@pytest.fixture
def client(packages: Path, tmp_path: Path) -> Path:
    """A copy of the client as the repository has it, with its packages."""
    copy = tmp_path / "clients" / "typescript"
    shutil.copytree(CLIENT, copy, ignore=shutil.ignore_patterns("node_modules"))
    (copy / "node_modules").symlink_to(packages)
    (tmp_path / "protos").symlink_to(ROOT / "protos")
    return copy


def test_the_committed_client_is_what_the_contracts_generate(client: Path, node: Path):
    path = f"{node.parent}:/usr/bin:/bin"
    buf = Path(sys.executable).parent / "buf"
    done = subprocess.run([buf, "generate"], cwd=client, env={"PATH": path, "HOME": str(client)}, check=False)
    assert done.returncode == 0
    fresh, committed = client / "src/gen", CLIENT / "src/gen"
    names = {str(path.relative_to(folder)) for folder in (fresh, committed) for path in folder.rglob("*_pb.*")}
    _, different, missing = filecmp.cmpfiles(fresh, committed, names, shallow=False)
    assert [*different, *missing] == [], "run `make clients`"


def test_its_types_are_sound(client: Path, node: Path):
    done = subprocess.run(
        [node, "node_modules/typescript/bin/tsc", "--noEmit"], cwd=client, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_its_example_talks_to_a_bot(client: Path, node: Path, mobot: Mobot):
    where = {f"MOBOT_{service.upper()}_TARGET": mobot.address(service) for service in SERVICES}
    talk = [str(node), str(client / "examples/talk.ts")]
    for text in ("hello", "good-bye"):
        done = run_command([*talk, "main", text], {**mobot.environment, **where}, timeout_s=60)
        assert (done.code, done.out) == (0, f"Mo here. You said: {text}\n"), done.said
    stranger = run_command([*talk, "main"], {**mobot.environment, **where, "MOBOT_TOKEN": "wrong"}, timeout_s=60)
    assert stranger.code == 1
    assert "[unauthenticated]" in stranger.err
    assert len(stranger.err.splitlines()) == 1
