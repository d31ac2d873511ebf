"""Regenerates mobot/ from protos/. With --check it regenerates elsewhere and demands no difference."""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
GENERATED = ROOT / "mobot"


def generate(out: Path) -> None:
    """Writes messages, service stubs and their types for every contract below `out`."""
    files = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.glob("mobot/**/*.proto"))
    services = [name for name in files if name.endswith("_service.proto")]
    include = Path(grpc_tools.__file__).parent / "_proto"
    common = ["protoc", f"-I{PROTOS}", f"-I{include}"]
    # Only services get _grpc modules: an empty one per noun file would be noise.
    runs = [
        [*common, f"--python_out={out}", f"--mypy_out=quiet:{out}", *files],
        [*common, f"--grpc_python_out={out}", f"--mypy_grpc_out=quiet:{out}", *services],
    ]
    for arguments in runs:
        if protoc.main(arguments) != 0:
            raise SystemExit("protoc failed; its message stands above")
    # protoc writes no packages; mypy, grimp and wheels behave better with regular ones.
    for folder in [out / "mobot", *(path for path in (out / "mobot").rglob("*") if path.is_dir())]:
        (folder / "__init__.py").write_text("")


def contents(tree: Path) -> dict[str, bytes]:
    """Every file of a tree by its relative path, caches aside."""
    return {
        str(path.relative_to(tree)): path.read_bytes()
        for path in tree.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare; exit 1 when the committed code is stale")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        fresh = Path(scratch) / "mobot"
        if arguments.check:
            committed, wanted = contents(GENERATED), contents(fresh)
            stale = [name for name in committed.keys() | wanted.keys() if committed.get(name) != wanted.get(name)]
            if stale:
                sys.exit("generated code is stale, run `make proto`: " + ", ".join(sorted(stale)))
            return
        shutil.rmtree(GENERATED, ignore_errors=True)
        shutil.copytree(fresh, GENERATED)


if __name__ == "__main__":
    main()
