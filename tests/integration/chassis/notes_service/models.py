"""The tables of the notes, as a service declares its own."""

from sqlalchemy import Column, ForeignKey, Integer, LargeBinary, MetaData, String, Table

from chassis.idempotency import ledger_table

METADATA = MetaData()

BOOKS = Table("book", METADATA, Column("name", String, primary_key=True))

NOTES = Table(
    "note",
    METADATA,
    Column("book", String, ForeignKey("book.name", ondelete="CASCADE"), primary_key=True),
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("body", LargeBinary, nullable=False),
)

LEDGER = ledger_table(METADATA)
