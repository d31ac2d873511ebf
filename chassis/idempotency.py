"""The ledger of request ids: a repeated request gets the answer of the first.

The ledger lies in the service's own database, so that an effect and its record are committed together or not at all.
Its functions are for use inside a write; two replicas that race for one id are told apart by the primary key.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.message import Message
from sqlalchemy import Column, Connection, DateTime, Index, LargeBinary, MetaData, String, Table, delete, insert, select

from chassis import direct_sql
from chassis.errors import REQUEST_ID_REUSED, FieldViolation, InvalidArgument, field_invalid

RETENTION = timedelta(days=7)
MAX_REQUEST_ID_LENGTH = 128

_COLUMNS = ("principal", "method", "request_id", "fingerprint", "response", "expire_time")
# As SQLAlchemy writes times there.
_SQLITE_TIME = "%Y-%m-%d %H:%M:%S.%f"


@dataclass(frozen=True, slots=True)
class RequestKey:
    """What makes a call repeatable: who asked for what under which id. Without a request id nothing is remembered."""

    principal: str
    method: str
    request_id: str
    fingerprint: str


def ledger_table(metadata: MetaData, name: str = "request_ledger") -> Table:
    """Declares the ledger among a service's own tables. The same request id of two principals is two requests."""
    return Table(
        name,
        metadata,
        Column("principal", String(512), primary_key=True),
        Column("method", String(128), primary_key=True),
        Column("request_id", String(MAX_REQUEST_ID_LENGTH), primary_key=True),
        Column("fingerprint", String(64), nullable=False),
        Column("response", LargeBinary, nullable=False),
        Column("expire_time", DateTime(timezone=True), nullable=False),
        Index(f"ix_{name}_expire_time", "expire_time"),
    )


def fingerprint(request: Message) -> str:
    """A digest of everything a request asks for, which is all of it but its `request_id`."""
    if "request_id" in request.DESCRIPTOR.fields_by_name:
        bare = type(request)()
        bare.CopyFrom(request)
        bare.ClearField("request_id")
        request = bare
    content = request.DESCRIPTOR.full_name.encode() + b"\0" + request.SerializeToString(deterministic=True)
    return hashlib.sha256(content).hexdigest()


def find(conn: Connection, table: Table, key: RequestKey) -> bytes | None:
    """The remembered response to this request, if it was answered before; None also for an empty `request_id`.

    Raises:
        InvalidArgument: REQUEST_ID_REUSED; the id was used for another request. FIELD_INVALID; it is too long.
    """
    if not key.request_id:
        return None
    if len(key.request_id) > MAX_REQUEST_ID_LENGTH:
        raise field_invalid("request_id", f"must not be longer than {MAX_REQUEST_ID_LENGTH} characters")
    row = _find(conn, table, key.principal, key.method, key.request_id)
    if row is None:
        return None
    known, response = row
    if known != key.fingerprint:
        rule = "was used before for a request with other content; use a new id for a new request"
        raise InvalidArgument(
            f"request_id {key.request_id!r} {rule}",
            reason=REQUEST_ID_REUSED,
            metadata={"field": "request_id", "requestId": key.request_id, "method": key.method},
            violations=(FieldViolation("request_id", rule),),
        )
    return bytes(response)


def remember(conn: Connection, table: Table, key: RequestKey, *, response: bytes, now: datetime) -> None:
    """Records the response, in the transaction of its effect, for `RETENTION`; nothing for an empty `request_id`."""
    if not key.request_id:
        return
    expire_time = (now + RETENTION).astimezone(UTC)
    row = (key.principal, key.method, key.request_id, key.fingerprint, response)
    if conn.dialect.name == "sqlite":
        insertion = f"INSERT INTO {table.name} ({', '.join(_COLUMNS)}) VALUES (?, ?, ?, ?, ?, ?)"
        direct_sql.run(conn, insertion, (*row, expire_time.strftime(_SQLITE_TIME)))
    else:
        conn.execute(insert(table), dict(zip(_COLUMNS, (*row, expire_time), strict=True)))


def _find(conn: Connection, table: Table, *key: str) -> Sequence[Any] | None:
    """Fingerprint and response."""
    if conn.dialect.name == "sqlite":
        question = (
            f"SELECT fingerprint, response FROM {table.name} WHERE principal = ? AND method = ? AND request_id = ?"
        )
        rows = direct_sql.fetch(conn, question, key)
        return rows[0] if rows else None
    columns = table.c
    found = select(columns.fingerprint, columns.response)
    for column, value in zip((columns.principal, columns.method, columns.request_id), key, strict=True):
        found = found.where(column == value)
    return conn.execute(found).one_or_none()


def sweep(conn: Connection, table: Table, now: datetime) -> int:
    """Forgets what is past its retention; returns how many requests that were."""
    return conn.execute(delete(table).where(table.c.expire_time <= now.astimezone(UTC))).rowcount
