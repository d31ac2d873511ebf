"""Topics: made, listened to, and published to."""

from sqlalchemy import Connection

from chassis.errors import field_invalid
from chassis.identity import Caller
from chassis.paging import PageTokens, QueryValue, clamp_page_size
from chassis.resource_names import parse_bot, parse_session
from chassis.telemetry import CURRENT_TRACEPARENT
from mobot.router.v1 import message_pb2, router_service_pb2
from router_service.bots import Bots
from router_service.convert.drafts import DraftReader
from router_service.convert.messages import fill_receipt
from router_service.convert.publications import parse_topic, read_publication
from router_service.convert.times import set_time
from router_service.domain import limits
from router_service.domain.errors import CallerNotAllowed
from router_service.servicer.access import check_operator, own_bot
from router_service.servicer.requests import Requests
from router_service.store import topics
from router_service.store.router_store import RouterStore
from router_service.store.ticket import Ticket
from router_service.store.topics import StoredTopic

_PAGE = 100
_MAX_PAGE = 1_000
_MAX_DESCRIPTION = 1_024


class Topics:
    """`limit` is the most subscribers of a topic: a publication is one transaction."""

    def __init__(
        self,
        store: RouterStore,
        requests: Requests,
        drafts: DraftReader,
        bots: Bots,
        tokens: PageTokens,
        *,
        limit: int,
    ) -> None:
        self._store = store
        self._requests = requests
        self._drafts = drafts
        self._bots = bots
        self._tokens = tokens
        self._limit = limit

    async def create(
        self, request: router_service_pb2.CreateTopicRequest, caller: Caller
    ) -> router_service_pb2.CreateTopicResponse:
        check_operator(caller)
        topic = parse_topic(f"topics/{request.topic_id}", "topic_id")
        description = request.topic.description
        if len(description) > _MAX_DESCRIPTION or "\x00" in description:
            raise field_invalid("topic.description", f"must be at most {_MAX_DESCRIPTION} characters, no U+0000")
        now_us = self._store.now_us()

        def create(conn: Connection) -> router_service_pb2.CreateTopicResponse:
            made = topics.create(conn, topic, description, now_us)
            return router_service_pb2.CreateTopicResponse(topic=_to_proto(made))

        return await self._requests.once(request, caller, router_service_pb2.CreateTopicResponse, create)

    async def delete(
        self, request: router_service_pb2.DeleteTopicRequest, caller: Caller
    ) -> router_service_pb2.DeleteTopicResponse:
        check_operator(caller)
        topic = parse_topic(request.name, "name")

        def delete(conn: Connection) -> router_service_pb2.DeleteTopicResponse:
            topics.remove(conn, topic, request.etag)
            return router_service_pb2.DeleteTopicResponse()

        return await self._requests.once(request, caller, router_service_pb2.DeleteTopicResponse, delete)

    async def list_topics(
        self, request: router_service_pb2.ListTopicsRequest, caller: Caller
    ) -> router_service_pb2.ListTopicsResponse:
        del caller  # names of topics are no secret
        if request.subscriber:
            _check_subscriber(request.subscriber)
        size = clamp_page_size(request.page_size, default=_PAGE, maximum=_MAX_PAGE)
        bound: dict[str, QueryValue] = {"list": "topics", "subscriber": request.subscriber}
        after = str(self._tokens.decode(bound, request.page_token)[0]) if request.page_token else ""
        found = await self._store.read(lambda conn: topics.page(conn, request.subscriber, after=after, limit=size + 1))
        token = self._tokens.encode(bound, (found[size - 1].id,)) if len(found) > size else ""
        return router_service_pb2.ListTopicsResponse(
            topics=[_to_proto(topic) for topic in found[:size]], next_page_token=token
        )

    async def subscribe(
        self, request: router_service_pb2.SubscribeTopicRequest, caller: Caller
    ) -> router_service_pb2.SubscribeTopicResponse:
        """A subscription is the subscriber's consent to whatever is published: the policy is not asked again."""
        topic = parse_topic(request.topic, "topic")
        session = _check_subscriber(request.subscriber)
        _check_own(caller, request.subscriber)
        await self._bots.require(session.partition("/sessions/")[0])
        now_us = self._store.now_us()

        def subscribe(conn: Connection) -> router_service_pb2.SubscribeTopicResponse:
            created = topics.subscribe(conn, topic, request.subscriber, session, limit=self._limit, now_us=now_us)
            return router_service_pb2.SubscribeTopicResponse(created=created)

        return await self._requests.once(request, caller, router_service_pb2.SubscribeTopicResponse, subscribe)

    async def unsubscribe(
        self, request: router_service_pb2.UnsubscribeTopicRequest, caller: Caller
    ) -> router_service_pb2.UnsubscribeTopicResponse:
        topic = parse_topic(request.topic, "topic")
        _check_subscriber(request.subscriber)
        _check_own(caller, request.subscriber)

        def unsubscribe(conn: Connection) -> router_service_pb2.UnsubscribeTopicResponse:
            removed = topics.unsubscribe(conn, topic, request.subscriber)
            return router_service_pb2.UnsubscribeTopicResponse(removed=removed)

        return await self._requests.once(request, caller, router_service_pb2.UnsubscribeTopicResponse, unsubscribe)

    async def publish(self, draft: message_pb2.MessageDraft, caller: Caller) -> message_pb2.Receipt:
        if draft.WhichOneof("destination") != "topic":
            raise field_invalid("message.topic", "must be set: publications go to topics")
        item = read_publication(self._drafts, draft, caller, traceparent=CURRENT_TRACEPARENT.get())
        ticket = item.ticket = Ticket()
        self._store.mail.post(item)
        await ticket.wait()
        if item.refusal is not None:
            raise item.refusal
        receipt = message_pb2.Receipt()
        fill_receipt(receipt, item)
        return receipt


def _check_subscriber(name: str) -> str:
    """The session that gets the subscriber's copies."""
    if "/sessions/" in name:
        parse_session(name, field="subscriber")
        return name
    parse_bot(name, field="subscriber")
    return f"{name}/sessions/{limits.MAIN_SESSION}"


def _check_own(caller: Caller, subscriber: str) -> None:
    bot = own_bot(caller)
    if bot and subscriber != bot and not subscriber.startswith(f"{bot}/"):
        raise CallerNotAllowed(
            f"{caller.actor} may not subscribe {subscriber}",
            metadata={"principal": caller.principal, "actor": caller.actor},
        )


def _to_proto(stored: StoredTopic) -> message_pb2.Topic:
    topic = message_pb2.Topic(
        name=f"topics/{stored.id}",
        description=stored.description,
        subscriber_count=stored.subscribers,
        etag=f"v{stored.version}",
    )
    set_time(topic.create_time, stored.create_us)
    return topic
