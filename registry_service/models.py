"""The registry's tables. Times are integers: microseconds since 1970, UTC."""

from sqlalchemy import BigInteger, Index, MetaData, String, Table, Text
from sqlmodel import Field, SQLModel

from chassis.idempotency import ledger_table

# Ids and names are compared byte by byte on both engines, so that pages continue where the last one ended.
_NAME = String().with_variant(String(collation="C"), "postgresql")


class RegistryTable(SQLModel):
    """The base of this service's tables, which lie in a metadata of their own."""

    metadata = MetaData()


class Head(RegistryTable, table=True):
    """One row: the log's identity, its last position, and the last one that was compacted away.

    Its lock makes writers take turns, so that positions become visible in order.
    """

    __tablename__ = "head"

    id: int = Field(primary_key=True)
    log_id: str
    position: int = Field(sa_type=BigInteger)
    compacted: int = Field(sa_type=BigInteger)


class Change(RegistryTable, table=True):
    """The log. `payload` is the bot, status or worker as it then was, as JSON."""

    __tablename__ = "change"

    position: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    kind: str
    subject: str
    change_time: int = Field(sa_type=BigInteger)
    payload: str = Field(sa_type=Text)


class Bot(RegistryTable, table=True):
    """`settings` and `status` hold the whole of them as JSON; the columns beside them are for filters and order."""

    __tablename__ = "bot"

    id: str = Field(primary_key=True, sa_type=_NAME)
    uid: str
    revision: int = Field(sa_type=BigInteger)
    settings: str = Field(sa_type=Text)
    display_name: str = Field(sa_type=_NAME)
    search_text: str = Field(sa_type=Text)
    owner: str
    set_name: str = Field(index=True)
    brain_kind: str
    enabled: bool
    suspended: bool
    state_reason: str
    resume_time: int | None = Field(sa_type=BigInteger, index=True)
    lifecycle: str
    drain_ask_time: int | None = Field(sa_type=BigInteger)
    drain_deadline: int | None = Field(sa_type=BigInteger, index=True)
    retention_s: float | None
    create_time: int = Field(sa_type=BigInteger)
    update_time: int = Field(sa_type=BigInteger)
    delete_time: int | None = Field(sa_type=BigInteger)
    purge_time: int | None = Field(sa_type=BigInteger, index=True)
    state: str
    status: str = Field(sa_type=Text)


class BotLabel(RegistryTable, table=True):
    __tablename__ = "bot_label"

    bot: str = Field(primary_key=True, sa_type=_NAME)
    key: str = Field(primary_key=True)
    value: str


class BotCapability(RegistryTable, table=True):
    __tablename__ = "bot_capability"

    bot: str = Field(primary_key=True, sa_type=_NAME)
    capability: str = Field(primary_key=True)


class Worker(RegistryTable, table=True):
    __tablename__ = "worker"

    id: str = Field(primary_key=True, sa_type=_NAME)
    uid: str
    settings: str = Field(sa_type=Text)
    registrant: str
    state: str
    in_flight_count: int = Field(sa_type=BigInteger)
    lease_id: str
    lease_s: float
    suspect_time: int = Field(sa_type=BigInteger)
    expire_time: int = Field(sa_type=BigInteger, index=True)
    create_time: int = Field(sa_type=BigInteger)
    report_time: int | None = Field(sa_type=BigInteger)
    drain: bool
    drain_time: int | None = Field(sa_type=BigInteger)
    drain_deadline: int | None = Field(sa_type=BigInteger)
    drain_reason: str
    end_time: int | None = Field(sa_type=BigInteger)


class WorkerLabel(RegistryTable, table=True):
    __tablename__ = "worker_label"

    worker: str = Field(primary_key=True, sa_type=_NAME)
    key: str = Field(primary_key=True)
    value: str


class Serving(RegistryTable, table=True):
    """Which worker serves which bot, and what it last said about it."""

    __tablename__ = "serving"

    worker: str = Field(primary_key=True, sa_type=_NAME)
    bot: str = Field(primary_key=True, sa_type=_NAME, index=True)
    in_flight_count: int = Field(sa_type=BigInteger)
    brain_health: str
    detail: str
    report_time: int | None = Field(sa_type=BigInteger)


def _table(name: str) -> Table:
    return RegistryTable.metadata.tables[name]


HEAD = _table("head")
CHANGE = _table("change")
BOT = _table("bot")
BOT_LABEL = _table("bot_label")
BOT_CAPABILITY = _table("bot_capability")
WORKER = _table("worker")
WORKER_LABEL = _table("worker_label")
SERVING = _table("serving")
LEDGER = ledger_table(RegistryTable.metadata)

# A sweep looks for workers whose silence has consequences, which are few among the many that have long been gone.
Index("ix_worker_state", WORKER.c.state)
