#!/bin/sh
# Makes .venv from a lock file: setup.sh LOCK STAMP. Needs Python 3.11 or newer and the package registry, nothing else.
set -eu
lock=$1
stamp=$2
find_python() {
    for candidate in "${PYTHON:-}" python3.11 python3.12 python3.13 python3; do
        [ -n "$candidate" ] || continue
        "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$candidate"; return; }
    done
    echo "mobot needs Python 3.11 or newer; set PYTHON=/path/to/python" >&2
    exit 1
}
if [ ! -x .venv/bin/python ]; then
    python=$(find_python)
    echo "making .venv with $("$python" --version)" >&2
    "$python" -m venv .venv || { echo "could not make .venv; on Debian: apt-get install python3-venv" >&2; exit 1; }
fi
if [ ! -x .venv/bin/uv ]; then
    .venv/bin/python -m pip install --quiet --disable-pip-version-check uv || { echo "could not install uv from the package registry" >&2; exit 1; }
fi
echo "installing $lock" >&2
.venv/bin/uv pip install --quiet --compile-bytecode --python .venv/bin/python --require-hashes --requirement "$lock"
.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --editable .
touch "$stamp"
