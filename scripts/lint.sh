#!/bin/sh
# Every static check, each said aloud; stops at the first that fails.
set -eu
bin=$(pwd)/.venv/bin
say() { echo "lint: $1" >&2; }
say "ruff format"; "$bin/ruff" format --check --quiet .
say "ruff check"; "$bin/ruff" check --quiet .
say "import contracts"; "$bin/lint-imports" --no-cache > .lint-imports.log 2>&1 || { cat .lint-imports.log; rm -f .lint-imports.log; exit 1; }
rm -f .lint-imports.log
say "buf lint"; (cd protos && "$bin/buf" lint && "$bin/buf" format --exit-code --diff)
say "buf breaking"; scripts/proto-breaking.sh
say "generated code"; PATH="$bin:$PATH" "$bin/python" scripts/generate_protos.py --check
say "spelling"; "$bin/codespell" --quiet-level=2
say "mypy --strict"; "$bin/mypy" --no-error-summary
