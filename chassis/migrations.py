"""Schema migrations, one linear chain for each service package, run from code without any ini file.

A chain is the folder `<package>/versions` with files that set `revision` and `down_revision`, beside an `env.py` of two
lines: `from chassis.migrations import run_env; run_env(metadata)`. Whether a database is at the head of its chain is
found without importing alembic, which takes longer than a whole service takes to start.
"""

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import Connection, MetaData, inspect, text

from chassis.errors import SCHEMA_STALE, FailedPrecondition

if TYPE_CHECKING:
    from alembic.config import Config

VERSION_TABLE = "alembic_version"

_REVISION = re.compile(r"^revision\b[^=\n]*=\s*[\"']([^\"']+)[\"']", re.MULTILINE)
_DOWN_REVISION = re.compile(r"^down_revision\b[^=\n]*=\s*(?:None|[\"']([^\"']+)[\"'])", re.MULTILINE)

# Full-text tables exist on one engine only and are written by hand in the migrations; no model describes them.
_UNMODELLED_TABLE = re.compile(r".*_fts(_\w+)?")

# Replicas that start together must not migrate together. The number only has to be the same everywhere.
_POSTGRES_LOCK = 0x6D6F626F74


@dataclass(frozen=True, slots=True)
class Chain:
    """The migrations that the code of `package` knows."""

    package: str
    folder: Path
    head: str
    revisions: frozenset[str]


def read_chain(package: str) -> Chain:
    """The chain of a package such as "session_service.migrations", read from its files without running them."""
    folder = chain_folder(package)
    parents: dict[str, str | None] = {}
    for file in sorted((folder / "versions").glob("*.py")):
        source = file.read_text()
        revision, down = _REVISION.search(source), _DOWN_REVISION.search(source)
        if revision and down:
            parents[revision[1]] = down[1]
    heads = parents.keys() - parents.values()
    if len(heads) != 1:
        raise ValueError(f"{package} must have exactly one head revision, has {sorted(heads)}")
    return Chain(package, folder, heads.pop(), frozenset(parents))


def chain_folder(package: str) -> Path:
    """Where the package's env.py lies. Imports nothing of the package but its parents."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"no package {package}", name=package)
    return Path(next(iter(spec.submodule_search_locations)))


def current(conn: Connection) -> str | None:
    """The revision stored in the database; None for a database without any."""
    if not inspect(conn).has_table(VERSION_TABLE):
        return None
    revision: str | None = conn.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
    return revision


def check(conn: Connection, chain: Chain) -> Literal["at head", "behind"]:
    """Compares the database with the code.

    Raises:
        FailedPrecondition: SCHEMA_STALE; the database was written by a newer version of the code.
    """
    stored = current(conn)
    if stored == chain.head:
        return "at head"
    if stored is not None and stored not in chain.revisions:
        raise FailedPrecondition(
            f"the data belongs to a newer version of {chain.package}: it has schema {stored}, this version knows up to "
            f"{chain.head}; start the newer version, or restore a backup made before the upgrade",
            reason=SCHEMA_STALE,
            metadata={"package": chain.package, "stored": stored, "head": chain.head},
        )
    return "behind"


def stale_error(conn: Connection, chain: Chain) -> FailedPrecondition:
    """What a service that must not migrate by itself refuses to start with."""
    stored = current(conn) or "none"
    return FailedPrecondition(
        f"the database has schema {stored} of {chain.package} but this version needs {chain.head}; "
        "run `mobot migrate`, or set MOBOT_MIGRATE_ON_START=1",
        reason=SCHEMA_STALE,
        metadata={"package": chain.package, "stored": stored, "head": chain.head},
    )


def upgrade(conn: Connection, chain: Chain) -> None:
    """Brings the database to the head of the chain, in one transaction that is left open for the caller to commit.

    Raises:
        FailedPrecondition: SCHEMA_STALE, as `check`.
    """
    if conn.dialect.name == "postgresql":
        conn.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _POSTGRES_LOCK})
    if check(conn, chain) == "at head":
        return
    from alembic import command  # slow to import, and rarely needed

    config = alembic_config(chain)
    config.attributes["connection"] = conn
    command.upgrade(config, "head")


def run_env(metadata: MetaData) -> None:
    """The whole body of a service's migrations/env.py: runs the migrations on the connection given by `upgrade`."""
    from alembic import context

    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=metadata,
        # The caller's transaction spans the whole upgrade; SQLite's DDL takes part, since our BEGIN is explicit.
        transactional_ddl=True,
        **compare_options(),
    )
    context.run_migrations()


def alembic_config(chain: Chain) -> "Config":
    """Alembic's configuration for a chain, without its ini file."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(chain.folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def compare_options() -> dict[str, Any]:
    """How a database is compared with metadata, the same when migrations are written and when they are checked."""
    return {
        "render_as_batch": True,  # SQLite alters a table by making it anew
        "compare_type": True,
        "include_name": lambda name, kind, _: not (kind == "table" and _UNMODELLED_TABLE.fullmatch(name or "")),
    }
