"""Mail to whoever wanted a reply and gets none, in the transaction that ends the run."""

from collections.abc import Callable
from typing import Final

from sqlalchemy import select

from router_service.domain.mail import EndedRun, NewMessage
from router_service.domain.state import MessageState
from router_service.models import MESSAGE
from router_service.store.accepting import put_internal
from router_service.store.work import Work

# Makes the notice from the draft as it is stored; None when nobody wants one.
MakeNotice = Callable[[bytes, EndedRun], NewMessage | None]

_REPLY: Final = ("id", "reply_message")


def tell(work: Work, make: MakeNotice, done: int) -> int:
    """Writes the notices for what ended badly among the effects from number `done` on; returns how many there are now.

    Mailboxes that the notices go to are locked here, after the others: two transactions that do so crosswise are told
    apart by the database, and tried again.
    """
    effects = work.batch.effects
    if done == len(effects):
        return done
    bad = {
        effect.message_id: effect
        for effect in effects[done:]
        if type(effect) is EndedRun and effect.state is not MessageState.SUCCEEDED
    }
    if bad:
        _tell(work, make, bad)
    return len(effects)


def _tell(work: Work, make: MakeNotice, bad: dict[str, EndedRun]) -> None:
    work.flush()
    columns = MESSAGE.c
    rows = work.conn.execute(
        select(columns.id, columns.draft, columns.ask_until, columns.reply_message).where(columns.id.in_(bad))
    )
    notices: list[tuple[str, NewMessage]] = []
    for row in rows:
        asked = row.ask_until is not None and row.ask_until > work.now_us  # whoever asks gets the answer itself
        notice = None if asked or row.reply_message else make(bytes(row.draft), bad[row.id])
        if notice is not None:
            notices.append((row.id, notice))
    if not notices:
        return
    work.load_boxes({notice.session for _, notice in notices})
    work.load_known([notice.run for _, notice in notices])
    for message_id, notice in notices:
        if put_internal(work, notice):
            work.update(_REPLY, (message_id, notice.id))
