"""Bots in the database: one row each, with their labels and capabilities beside them for filters."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from sqlalchemy import Connection, delete, func, insert, select, update

from registry_service.domain.bot import Bot
from registry_service.domain.change import BotChanged, BotRemoved
from registry_service.domain.errors import BotNotFound
from registry_service.models import BOT, BOT_CAPABILITY, BOT_LABEL
from registry_service.store.codec import bot_from_row, bot_to_row
from registry_service.store.log import Transaction

# Both engines bound the parameters of one statement at about 32,000.
_IDS_PER_STATEMENT = 5_000


def find_bot(conn: Connection, bot: str) -> Bot | None:
    row = conn.execute(select(BOT).where(BOT.c.id == bot)).mappings().one_or_none()
    return None if row is None else bot_from_row(row)


def get_bot(conn: Connection, bot: str) -> Bot:
    found = find_bot(conn, bot)
    if found is None:
        raise BotNotFound(bot)
    return found


def find_bots(conn: Connection, bots: Iterable[str]) -> dict[str, Bot]:
    """Those of `bots` that exist, by id."""
    found: dict[str, Bot] = {}
    for ids in batches(sorted(set(bots))):
        for row in conn.execute(select(BOT).where(BOT.c.id.in_(ids))).mappings():
            found[row["id"]] = bot_from_row(row)
    return found


def bots_of_set(conn: Connection, set_name: str) -> dict[str, Bot]:
    rows = conn.execute(select(BOT).where(BOT.c.set_name == set_name)).mappings()
    return {row["id"]: bot_from_row(row) for row in rows}


def count_bots(conn: Connection) -> int:
    count: int = conn.execute(select(func.count()).select_from(BOT)).scalar_one()
    return count


def add_bot(tx: Transaction, bot: Bot) -> Bot:
    """Inserts and logs a bot; returns it with its revision."""
    bot = replace(bot, revision=tx.next_position)
    tx.conn.execute(insert(BOT), bot_to_row(bot))
    _add_filtered_parts(tx, bot)
    tx.log(BotChanged(bot))
    return bot


def save_bot(tx: Transaction, before: Bot, after: Bot) -> Bot:
    """Writes and logs a changed bot; returns it with its revision, or as it was if nothing changed."""
    if after == before:
        return before
    after = replace(after, revision=tx.next_position)
    tx.conn.execute(update(BOT).where(BOT.c.id == after.id), bot_to_row(after))
    if (before.settings.labels, before.settings.capabilities) != (after.settings.labels, after.settings.capabilities):
        _drop_filtered_parts(tx, after.id)
        _add_filtered_parts(tx, after)
    tx.log(BotChanged(after))
    return after


def purge_bot(tx: Transaction, bot: str) -> None:
    _drop_filtered_parts(tx, bot)
    tx.conn.execute(delete(BOT).where(BOT.c.id == bot))
    tx.log(BotRemoved(bot))


def batches(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    """`ids` in parts that fit into one statement."""
    return (ids[start : start + _IDS_PER_STATEMENT] for start in range(0, len(ids), _IDS_PER_STATEMENT))


def _add_filtered_parts(tx: Transaction, bot: Bot) -> None:
    labels = [{"bot": bot.id, "key": key, "value": value} for key, value in bot.settings.labels.items()]
    if labels:
        tx.conn.execute(insert(BOT_LABEL), labels)
    capabilities = [{"bot": bot.id, "capability": each.id} for each in bot.settings.capabilities]
    if capabilities:
        tx.conn.execute(insert(BOT_CAPABILITY), capabilities)


def _drop_filtered_parts(tx: Transaction, bot: str) -> None:
    tx.conn.execute(delete(BOT_LABEL).where(BOT_LABEL.c.bot == bot))
    tx.conn.execute(delete(BOT_CAPABILITY).where(BOT_CAPABILITY.c.bot == bot))
