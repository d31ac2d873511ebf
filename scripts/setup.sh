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
uv=.venv/bin/uv
if [ ! -x $uv ]; then
    # A uv of the machine serves as well; without one, pip brings it.
    if command -v uv >/dev/null 2>&1; then
        uv=uv
    else
        .venv/bin/python -m pip install --quiet --disable-pip-version-check uv ||
            { echo "could not install uv from the package registry" >&2; exit 1; }
    fi
fi
echo "installing $lock" >&2
"$uv" pip install --quiet --compile-bytecode --python .venv/bin/python --require-hashes --requirement "$lock"
"$uv" pip install --quiet --python .venv/bin/python --no-deps --editable .
# Written ahead: where Python may not write its caches by itself, each start would compile everything anew.
.venv/bin/python -m compileall -q mobot chassis ./*_service gateway bot_sdk bot_runner mobot_cli
touch "$stamp"
