"""Statements past SQLAlchemy, for the hot tables.

SQLAlchemy spends several times as much on a statement as SQLite on the rows. So on SQLite these go to the driver's own
connection, in the same transaction as everything else that is done by `conn`. Driver errors come as they are.
"""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection

Row = Sequence[Any]

BEGIN: Final = "mobot.begin"
"""Where a connection's info holds the statement that begins its transactions."""


def fetch(conn: Connection, statement: str, parameters: Row = ()) -> Sequence[Row]:
    """Runs a statement in the driver's own wording; returns its rows."""
    if conn.dialect.name != "sqlite":
        return conn.exec_driver_sql(statement, tuple(parameters)).all()
    rows: list[Row] = _open(conn).execute(statement, parameters).fetchall()
    return rows


def run(conn: Connection, statement: str, parameters: Row = ()) -> None:
    """Runs a statement that gives no rows."""
    if conn.dialect.name != "sqlite":
        conn.exec_driver_sql(statement, tuple(parameters))
    else:
        _open(conn).execute(statement, parameters)


def insert(conn: Connection, statement: str, parameters: Row = ()) -> int:
    """Inserts one row on SQLite; returns its key. What RETURNING does costs as much as another index."""
    key: int = _open(conn).execute(statement, parameters).lastrowid
    return key


def run_many(conn: Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Runs a statement for each of `rows`."""
    if conn.dialect.name != "sqlite":
        conn.exec_driver_sql(statement, list(rows))
    else:
        _open(conn).executemany(statement, rows)


def commit(conn: Connection) -> None:
    """Commits what was done in either way."""
    if conn.dialect.name == "sqlite":
        driver = conn.connection.driver_connection
        if driver is not None and driver.in_transaction:
            driver.execute("COMMIT")
    if conn.in_transaction():
        conn.commit()


def fold_log(conn: Connection) -> None:
    """Copies SQLite's write-ahead log into the file, as far as no reader needs it, so that the log starts anew."""
    driver = conn.connection.driver_connection
    if driver is not None:
        driver.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def roll_back(conn: Connection) -> None:
    """Undoes what was done in either way."""
    if conn.dialect.name == "sqlite":
        driver = conn.connection.driver_connection
        if driver is not None and driver.in_transaction:
            driver.execute("ROLLBACK")
    conn.rollback()


def _open(conn: Connection) -> Any:  # noqa: ANN401 - the driver's connection
    """The driver's connection, inside a transaction."""
    # The same as its driver_connection, which costs five times as much to ask for.
    driver: Any = conn.connection.dbapi_connection
    if not driver.in_transaction:
        driver.execute(conn.info[BEGIN])
    return driver
