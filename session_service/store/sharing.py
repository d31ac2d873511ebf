"""Links to share sessions by, and what their readers get to see."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, insert, select, update

from chassis.errors import field_invalid
from session_service.domain import errors
from session_service.domain.event import CONTEXT_KINDS, MAX_ANSWER_BYTES, StoredEvent
from session_service.domain.session import Session, SessionState
from session_service.domain.share import ShareLink, hash_of
from session_service.domain.transfer_errors import ShareLinkNotFound
from session_service.models import SESSION, SHARE_LINK, TRANSCRIPT
from session_service.store.log import EventFilter, get_session, head_position, select_events
from session_service.store.rows import SESSIONS_BY_KEY, to_session
from session_service.store.transaction import Transaction

_s = SHARE_LINK.c
_SHARED = tuple(sorted(int(kind) for kind in CONTEXT_KINDS))


class LinkPage(NamedTuple):
    """`more`: whether links follow the last one. `as_of` is the log's position before the page was read."""

    links: Sequence[ShareLink]
    more: bool
    as_of: int


class SharedPage(NamedTuple):
    session: Session
    link: ShareLink
    events: Sequence[StoredEvent]
    more: bool


def create_link(
    tx: Transaction, name: str, link_id: str, token: str, actor: str, *, through: int, expire_time: int | None
) -> ShareLink:
    """Shares the session's present transcript. Raises SessionNotFound, SessionDeleted, FIELD_INVALID."""
    session = tx.find_session(name)
    if session is None:
        raise errors.SessionNotFound(name)
    head = session.head
    if head.state is SessionState.DELETED:
        raise errors.SessionDeleted(name)
    if through and not head.start_sequence < through <= head.last_sequence:
        raise field_invalid(
            "share_link.through_sequence",
            f"must be 0 or lie in the present transcript, {head.start_sequence + 1} to {head.last_sequence}",
        )
    if expire_time is not None and expire_time <= tx.now:
        raise field_invalid("share_link.expire_time", "must be in the future")
    link = ShareLink(head.bot, head.session_id, link_id, head.start_sequence, through, actor, tx.now, expire_time)
    values = {
        "link_id": link_id,
        "session": head.pk,
        "token_hash": hash_of(token),
        "start_sequence": link.start_sequence,
        "through_sequence": through,
        "created_by": actor,
        "create_time": tx.now,
        "expire_time": expire_time,
        "revoke_time": None,
    }
    tx.conn.execute(insert(SHARE_LINK), values)
    return link


def revoke_link(tx: Transaction, name: str, link_id: str) -> ShareLink:
    """The link as it is then; one that is revoked stays as it was. Raises ShareLinkNotFound."""
    row = tx.conn.execute(_select().where(_s.link_id == link_id, SESSION.c.name == name)).one_or_none()
    if row is None:
        raise ShareLinkNotFound(link_id)
    link = _to_link(row)
    if link.revoke_time is not None:
        return link
    tx.conn.execute(update(SHARE_LINK).where(_s.link_id == link_id).values(revoke_time=tx.now))
    return replace(link, revoke_time=tx.now)


def list_links(conn: Connection, name: str, *, after: str, size: int) -> LinkPage:
    """Oldest first, also those that work no more. Raises SessionNotFound."""
    as_of = head_position(conn)
    key = get_session(conn, name).head.pk
    statement = _select().where(_s.session == key, _s.link_id > after).order_by(_s.link_id).limit(size + 1)
    links = [_to_link(row) for row in conn.execute(statement)]
    return LinkPage(links[:size], len(links) > size, as_of)


def read_shared(conn: Connection, token: str, now: int, *, after: int, size: int) -> SharedPage:
    """What the reader of a link sees after sequence `after`. Raises ShareLinkNotFound, whatever the cause."""
    row = conn.execute(_select(_s.session).where(_s.token_hash == hash_of(token))).one_or_none()
    if row is None:
        raise ShareLinkNotFound("")
    link, key = _to_link(row), row[-1]
    session = to_session(SESSIONS_BY_KEY.run(conn, [key])[0])
    if not link.works(now) or session.head.state is SessionState.DELETED:
        raise ShareLinkNotFound("")
    shared = select(TRANSCRIPT.c.uid).where(
        TRANSCRIPT.c.session == key, TRANSCRIPT.c.start_sequence == link.start_sequence
    )
    which = EventFilter(
        kinds=_SHARED,
        uid=conn.execute(shared).scalar_one(),
        after_sequence=after,
        before_sequence=link.through_sequence + 1 if link.through_sequence else 0,
    )
    events: list[StoredEvent] = []
    left = MAX_ANSWER_BYTES
    for event in select_events(conn, session, which, limit=size + 1):
        if len(events) == size or (events and len(event.payload) > left):
            return SharedPage(session, link, events, True)
        left -= len(event.payload)
        events.append(event)
    return SharedPage(session, link, events, False)


def _select(*more: Any) -> Any:  # noqa: ANN401 - a select of these columns
    columns = (
        SESSION.c.bot,
        SESSION.c.session_id,
        _s.link_id,
        _s.start_sequence,
        _s.through_sequence,
        _s.created_by,
        _s.create_time,
        _s.expire_time,
        _s.revoke_time,
    )
    return select(*columns, *more).join_from(SHARE_LINK, SESSION, SESSION.c.pk == _s.session)


def _to_link(row: Row[Any]) -> ShareLink:
    bot, session_id, link_id, start, through, created_by, create_time, expire_time, revoke_time = tuple(row)[:9]
    return ShareLink(bot, session_id, link_id, start, through, created_by, create_time, expire_time, revoke_time)
