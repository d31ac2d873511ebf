"""Writes a new migration from the difference between a package's models and its chain. For developers only.

`python -m chassis.revision_writer session_service "What changes"` names the service whose chain grows.
"""

import re
import sys
from pathlib import Path
from typing import Any

from alembic.autogenerate import produce_migrations, render_python_code
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from chassis.migrations import Chain, alembic_config, chain_folder, read_chain


def write_revision(package: str, message: str) -> Path:
    """Writes the next migration of `package` and returns its path.

    It holds what the package's metadata has and an empty SQLite database brought to the head of its chain has not.
    Full-text tables and other things of one engine only are added by hand.
    """
    folder = chain_folder(package)
    (folder / "versions").mkdir(exist_ok=True)
    chain = read_chain(package) if any((folder / "versions").glob("*.py")) else Chain(package, folder, "", frozenset())
    config = alembic_config(chain)
    script = ScriptDirectory.from_config(config)
    engine = create_engine("sqlite://")
    with engine.connect() as conn:
        config.attributes["connection"] = conn
        seen: list[Any] = []

        def run(revision: Any, context: Any) -> Any:  # noqa: ANN401 - alembic's own signature
            seen.append(context)
            return script._upgrade_revs("head", revision) if chain.head else []

        with EnvironmentContext(config, script, fn=run):
            script.run_env()
        migration_context = seen[0]
        changes = produce_migrations(migration_context, migration_context.opts["target_metadata"])
        assert changes.upgrade_ops is not None
        body = render_python_code(changes.upgrade_ops, render_as_batch=True)
    engine.dispose()
    revision = f"{len(chain.revisions) + 1:04d}"
    slug = re.sub(r"[^a-z0-9]+", "_", message.lower()).strip("_")
    path = folder / "versions" / f"{revision}_{slug}.py"
    path.write_text(_revision_source(message, revision, chain.head or None, body))
    return path


def _revision_source(message: str, revision: str, down_revision: str | None, body: str) -> str:
    lines = [line for line in body.splitlines() if not line.lstrip().startswith("# ###")]
    code = "\n".join(line if line.startswith("    ") or not line else f"    {line}" for line in lines).strip("\n")
    imports = "import sqlalchemy as sa\n" if "sa." in code else ""
    imports += "import sqlmodel\n" if "sqlmodel." in code else ""
    down = f'"{down_revision}"' if down_revision else "None"
    return (
        f'"""{message}."""\n\n{imports}from alembic import op\n\nrevision = "{revision}"\ndown_revision = {down}\n\n\n'
        f"def upgrade() -> None:\n{code or '    pass'}\n"
    )


def _main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        sys.stderr.write('usage: python -m chassis.revision_writer <service> "<message>"\n')
        return 2
    sys.stdout.write(f"{write_revision(f'{arguments[0]}.migrations', arguments[1])}\n")
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
