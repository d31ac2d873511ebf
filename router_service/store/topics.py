"""Topics and who listens to them. Functions take a connection."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, delete, func, insert, select

from router_service.domain.errors import EtagMismatch, TopicAlreadyExists, TopicFull, TopicNotFound
from router_service.models import PUBLICATION, SUBSCRIPTION, TOPIC

_T: Final = TOPIC.c
_S: Final = SUBSCRIPTION.c
_P: Final = PUBLICATION.c


@dataclass(frozen=True, slots=True)
class StoredTopic:
    id: str
    description: str
    version: int
    subscribers: int
    create_us: int


def create(conn: Connection, topic: str, description: str, now_us: int) -> StoredTopic:
    if conn.execute(select(_T.id).where(_T.id == topic)).first() is not None:
        raise TopicAlreadyExists(topic)
    conn.execute(insert(TOPIC).values(id=topic, description=description, version=1, create_time=now_us))
    return StoredTopic(topic, description, 1, 0, now_us)


def remove(conn: Connection, topic: str, etag: str) -> None:
    """With its subscriptions. Copies that lie in mailboxes stay there."""
    version = _version(conn, topic)
    if etag and etag != f"v{version}":
        raise EtagMismatch(etag)
    conn.execute(delete(SUBSCRIPTION).where(_S.topic == topic))
    conn.execute(delete(TOPIC).where(_T.id == topic))


def page(conn: Connection, subscriber: str, *, after: str, limit: int) -> list[StoredTopic]:
    count = select(func.count()).where(_S.topic == _T.id).scalar_subquery()
    query = select(TOPIC, count.label("subscribers")).where(_T.id > after).order_by(_T.id).limit(limit)
    if subscriber:
        query = query.where(_T.id.in_(select(_S.topic).where(_S.subscriber == subscriber)))
    return [
        StoredTopic(row["id"], row["description"], row["version"], row["subscribers"], row["create_time"])
        for row in conn.execute(query).mappings()
    ]


def subscribe(conn: Connection, topic: str, subscriber: str, session: str, *, limit: int, now_us: int) -> bool:
    """Whether it was not subscribed before. Raises TOPIC_NOT_FOUND, TOPIC_FULL."""
    _version(conn, topic)
    mine = (_S.topic == topic, _S.subscriber == subscriber)
    if conn.execute(select(_S.topic).where(*mine)).first() is not None:
        return False
    if conn.execute(select(func.count()).where(_S.topic == topic)).scalar_one() >= limit:
        raise TopicFull(topic, limit)
    conn.execute(insert(SUBSCRIPTION).values(topic=topic, subscriber=subscriber, session=session, create_time=now_us))
    return True


def unsubscribe(conn: Connection, topic: str, subscriber: str) -> bool:
    """Whether it was subscribed. Raises TOPIC_NOT_FOUND."""
    _version(conn, topic)
    mine = delete(SUBSCRIPTION).where(_S.topic == topic, _S.subscriber == subscriber)
    return conn.execute(mine).rowcount == 1


def sweep(conn: Connection, before_id: str, limit: int) -> int:
    """Forgets the keys of publications with ids below `before_id`."""
    old = select(_P.run).where(_P.id < before_id).limit(limit)
    return conn.execute(delete(PUBLICATION).where(_P.run.in_(old))).rowcount


def _version(conn: Connection, topic: str) -> int:
    # Locked, so that a topic is not removed while somebody subscribes to it.
    version: int | None = conn.execute(select(_T.version).where(_T.id == topic).with_for_update()).scalar()
    if version is None:
        raise TopicNotFound(f"topics/{topic}")
    return version
