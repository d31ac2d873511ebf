"""The policy, and the record of decisions. Functions take a connection."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import orjson
from sqlalchemy import Connection, delete, insert, or_, select, update

from router_service.domain.errors import EtagMismatch
from router_service.domain.policy import Action, Rule
from router_service.models import AUDIT, MESSAGE, POLICY

_P: Final = POLICY.c
_A: Final = AUDIT.c
_M: Final = MESSAGE.c


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    rules: tuple[Rule, ...] = ()
    version: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """A decision. `id` orders entries by time; that of an accepted message is the message's own."""

    id: str
    create_us: int
    actor: str
    action: str
    target: str
    allowed: bool
    detail: str = ""
    message: str = ""


def read_policy(conn: Connection, *, lock: bool = False) -> StoredPolicy:
    query = select(POLICY).where(_P.id == 1)
    row = conn.execute(query.with_for_update() if lock else query).mappings().first()
    if row is None:
        return StoredPolicy()
    rules = tuple(
        Rule(actor, target, frozenset(map(Action, actions)), allow)
        for actor, target, actions, allow in orjson.loads(row["rules"])
    )
    return StoredPolicy(rules, row["version"])


def set_policy(conn: Connection, rules: Sequence[Rule], etag: str) -> StoredPolicy:
    """Raises ABORTED (ETAG_MISMATCH) unless the etag is the present one; that of a policy never set is empty."""
    present = read_policy(conn, lock=True)
    if etag != (f"v{present.version}" if present.version else ""):
        raise EtagMismatch(etag)
    text = orjson.dumps([(r.actor, r.target, sorted(r.actions), r.allow) for r in rules]).decode()
    version = present.version + 1
    if present.version:
        conn.execute(update(POLICY).where(_P.id == 1).values(rules=text, version=version))
    else:
        conn.execute(insert(POLICY).values(id=1, rules=text, version=version))
    return StoredPolicy(tuple(rules), version)


def record(conn: Connection, *entries: Entry) -> None:
    """At least one entry."""
    rows = [
        {
            "id": entry.id,
            "create_time": entry.create_us,
            "actor": entry.actor,
            "action": entry.action,
            "target": entry.target,
            "allowed": entry.allowed,
            "detail": entry.detail,
            "message": entry.message,
        }
        for entry in entries
    ]
    conn.execute(insert(AUDIT), rows)


def entries(conn: Connection, *, actor: str, target: str, before: str, limit: int) -> list[Entry]:
    """Newest first. An accepted message is the record of its own acceptance."""
    recorded = select(AUDIT).order_by(_A.id.desc()).limit(limit)
    sent = select(_M.id, _M.create_time, _M.sender, _M.source, _M.session).order_by(_M.id.desc()).limit(limit)
    if before:
        recorded, sent = recorded.where(_A.id < before), sent.where(_M.id < before)
    if actor:
        recorded, sent = recorded.where(_A.actor == actor), sent.where(_M.sender == actor)
    if target:
        whole_bot = target.startswith("bots/") and "/sessions/" not in target
        in_target = (f"{target}/", f"{target}0") if whole_bot else (target, target)
        recorded = recorded.where(or_(_A.target == target, _A.target.between(*in_target)))
        sent = sent.where(_M.session.between(*in_target))
    found = [
        Entry(
            row["id"],
            row["create_time"],
            row["actor"],
            row["action"],
            row["target"],
            bool(row["allowed"]),
            row["detail"],
            row["message"],
        )
        for row in conn.execute(recorded).mappings()
    ]
    for row in conn.execute(sent).mappings():
        speaks_for_another = row["source"].startswith("bots/") and not row["sender"].startswith("bots/")
        action = "inject" if speaks_for_another else "send"
        found.append(
            Entry(row["id"], row["create_time"], row["sender"], action, row["session"], True, "accepted", row["id"])
        )
    found.sort(key=lambda entry: entry.id, reverse=True)
    return found[:limit]


def sweep(conn: Connection, before_id: str, limit: int) -> int:
    old = select(_A.id).where(_A.id < before_id).limit(limit)
    return conn.execute(delete(AUDIT).where(_A.id.in_(old))).rowcount
