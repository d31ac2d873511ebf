"""The hot path: many appends to many sessions in one go, with a fixed number of statements for any number of events."""

from collections.abc import Sequence

from chassis.errors import AppError
from session_service.domain import errors, lifecycle
from session_service.domain.append import admit, advance, same_event
from session_service.domain.event import SESSION_KINDS, Append, Appended, Ensure, Known, StoredEvent
from session_service.domain.session import Draft, Fields, Head, Provenance, Session
from session_service.store.sql import find_events
from session_service.store.transaction import Transaction, Written

_Known = dict[tuple[int, str], Known]


def append_all(
    tx: Transaction, appends: Sequence[Append], *, with_sessions: bool
) -> list[Written[Appended] | AppError]:
    """Appends in order; a result or a refusal for each.

    `with_sessions`: also read back the sessions that have a lifecycle or run event among theirs, for the watchers.
    """
    heads = {head.name: head for head in tx.find_heads(list({_name(append) for append in appends}))}
    known = _known_events(tx, appends, heads)
    results: list[Written[Appended] | AppError] = []
    for append in appends:
        try:
            results.append(_append(tx, append, heads, known))
        except AppError as refusal:
            results.append(refusal)
    tx.flush()
    return _with_sessions(tx, appends, results, heads, watched=with_sessions)


def _append(tx: Transaction, append: Append, heads: dict[str, Head], known: _Known) -> Written[Appended]:
    name = _name(append)
    head = heads.get(name)
    first = len(tx.events)
    if head is None:
        if append.ensure is None or append.expected_uid:
            raise errors.SessionNotFound(name)
        head = heads[name] = _ensure(tx, append, append.ensure)
    pk = head.pk
    fresh = False
    for event in append.events:
        earlier = known.get((pk, event.id))
        if earlier is None:
            fresh = True
        elif not same_event(earlier, event):
            raise errors.EventIdReused(event.id)
    admit(head, append, fresh=fresh)
    if append.epoch > head.mark:
        head.mark = append.epoch
        tx.move(head)
    if fresh:
        tx.move(head)
    sequences: list[int] = []
    duplicates: list[bool] = []
    for event in append.events:
        key = (pk, event.id)
        earlier = known.get(key)
        if earlier is None:
            advance(head, event, tx.now)
            tx.append(head, event)
            known[key] = Known(head.last_sequence, event.kind, event.run)
            sequences.append(head.last_sequence)
            duplicates.append(False)
        else:
            sequences.append(earlier.sequence)
            duplicates.append(True)
    return Written(Appended(sequences, duplicates, None), tx.events[first:])


def _ensure(tx: Transaction, append: Append, ensure: Ensure) -> Head:
    lineage, depth = ancestors(tx, ensure.parent)
    provenance = Provenance(
        ensure.created_by, ensure.created_via, ensure.user_created, ensure.parent, lineage, spawn_depth=depth
    )
    draft = Draft(append.bot, append.session_id, Fields(), provenance)
    session = lifecycle.create(
        draft, pk=tx.next_session(), transcript=tx.next_transcript(), uid=tx.new_uid(), now=tx.now
    )
    session = tx.record(session, lifecycle.Created(session), ensure.created_by)
    tx.add_session(session)
    return session.head


def ancestors(tx: Transaction, parent: str) -> tuple[tuple[str, ...], int]:
    """Lineage and spawn depth of a child of `parent`; a parent that is not (or no longer) here counts as a root."""
    if not parent:
        return (), 0
    found = tx.find_session(parent)
    above = found.provenance.lineage if found is not None else ()
    return (*above, parent), len(above) + 1


def _known_events(tx: Transaction, appends: Sequence[Append], heads: dict[str, Head]) -> _Known:
    keys: list[tuple[int, str]] = []
    for append in appends:
        head = heads.get(_name(append))
        if head is not None and head.last_sequence:
            keys.extend((head.pk, event.id) for event in append.events)
    if not keys:
        return {}
    return {(row[0], row[1]): Known(row[2], row[3], row[4]) for row in find_events(tx.conn, keys)}


def _with_sessions(
    tx: Transaction,
    appends: Sequence[Append],
    results: list[Written[Appended] | AppError],
    heads: dict[str, Head],
    *,
    watched: bool,
) -> list[Written[Appended] | AppError]:
    wanted = {
        heads[_name(append)].pk
        for append, result in zip(appends, results, strict=True)
        if isinstance(result, Written) and (append.return_session or (watched and _shows(result.events)))
    }
    if not wanted:
        return results
    sessions: dict[int, Session] = {session.head.pk: session for session in tx.sessions(list(wanted))}
    filled: list[Written[Appended] | AppError] = []
    for append, result in zip(appends, results, strict=True):
        session = None if isinstance(result, AppError) else sessions.get(heads[_name(append)].pk)
        if isinstance(result, AppError) or session is None:
            filled.append(result)
        else:
            filled.append(Written(result.value._replace(session=session), result.events, (session,)))
    return filled


def _shows(events: Sequence[StoredEvent]) -> bool:
    return any(event.kind in SESSION_KINDS for event in events)


def _name(append: Append) -> str:
    return f"bots/{append.bot}/sessions/{append.session_id}"
