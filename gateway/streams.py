"""From the session service's log to the sockets: one multiplexed watch for all clients, and resumable ones for ours."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing
from typing import TypeAlias

import grpc.aio
import orjson

from chassis import errors as app_errors
from chassis.waiting import within
from gateway import errors, frames
from gateway.connection import Connection
from gateway.hub import Hub
from gateway.metrics import GatewayMetrics
from gateway.outbox import Event, StreamDelta
from gateway.run_end import last_message
from gateway.turns import Audience, Outgoing, TurnFeed
from gateway.watches import follow
from mobot.session.v1 import event_pb2, session_service_pb2, session_service_pb2_grpc

logger = logging.getLogger(__name__)

SessionStub: TypeAlias = "session_service_pb2_grpc.SessionServiceAsyncStub"

_RUN_EVENTS = 200
_ATTACH_TIMEOUT_S = 5.0
# A page that is loaded anew, or a command line that calls again and again, finds the watch still in place.
_LINGER_S = 5.0


class Streams:
    """Owns the watches. `run` must be running for anything to be heard."""

    def __init__(self, sessions: SessionStub, hub: Hub, *, metrics: GatewayMetrics, delta_interval_s: float) -> None:
        self._sessions = sessions
        self._hub = hub
        self._metrics = metrics
        self._delta_interval_s = delta_interval_s
        self._feed = self._new_feed()
        self._attached = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        self._watches: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Follows the log while somebody is connected, until cancelled.

        With nobody to tell, every event would still be encoded, sent and decoded; whoever connects reads what is there
        and then hears what follows.
        """
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            while True:
                await self._hub.wait_occupied()
                following = tasks.create_task(self._follow_all())
                try:
                    await self._hub.wait_vacant(_LINGER_S)
                finally:
                    following.cancel()
                    await asyncio.wait({following})
                    self._attached.clear()

    @property
    def is_ready(self) -> bool:
        """Whether every client that is connected would hear what happens."""
        return self._attached.is_set() or not len(self._hub)

    @property
    def is_attached(self) -> bool:
        """Whether the watch is in place, so that nothing that happens from now on goes unheard."""
        return self._attached.is_set()

    async def ensure_attached(self) -> None:
        """Waits until it is: in the first moments of the gateway, and of the first client after a silence.

        Raises:
            RequestRefused: the session service does not answer; the client is told to try again.
        """
        if self._attached.is_set():
            return
        if not await within(_ATTACH_TIMEOUT_S, self._attached.wait()):
            raise errors.unavailable("gateway starting; retry shortly", retry_after_ms=500, reason="startup-sidecars")

    def text_of_run(self, run: str) -> str:
        return self._feed.text_of_run(run)

    def watch(self, connection: Connection, after: str | None) -> None:
        """Starts a client's own resumable stream of `mobot.event`, replacing the one it had."""
        self.unwatch(connection)
        if self._tasks is None:
            raise app_errors.Unavailable("the gateway is starting", retry_after_s=1.0)
        task = self._tasks.create_task(self._follow_for(connection, after or ""))
        self._watches[connection.client.conn_id] = task

    def unwatch(self, connection: Connection) -> bool:
        """Ends a client's stream. False when there was none."""
        task = self._watches.pop(connection.client.conn_id, None)
        if task is not None:
            task.cancel()
        return task is not None

    # The watch for everybody.

    async def _follow_all(self) -> None:
        request = session_service_pb2.WatchEventsRequest(include_deltas=True, include_sessions=True)
        # What an earlier watch knew of runs is stale by now; running answers arrive whole when the watch begins.
        self._feed = self._new_feed()
        pacer = _Pacer(self._feed, self._delta_interval_s)
        try:
            async with aclosing(follow(self._sessions, request, on_reconnect=self._count_reconnect)) as incoming:
                async for frame in incoming:
                    if frame.HasField("reset"):
                        # What the clients show may be stale: an event without a key makes them fetch again.
                        payload = frames.dump({"reason": "reset", "ts": self._hub.now_ms()})
                        self._tell(Outgoing(Event("sessions.changed", payload), Audience.SESSIONS))
                        continue
                    await self._complete(self._feed, frame)
                    self._feed.feed(frame)
                    pacer.pace()
                    self._attached.set()
        finally:
            pacer.stop()

    def _new_feed(self) -> TurnFeed:
        return TurnFeed(self._tell, self._hub.now_ms, lambda: len(self._hub) > 0)

    def _tell(self, outgoing: Outgoing) -> None:
        what = outgoing.what
        if isinstance(what, StreamDelta):
            self._hub.broadcast_delta(what)
            return
        self._metrics.events.labels(what.name).inc()
        self._hub.broadcast(what, to=_listener(outgoing))

    def _count_reconnect(self) -> None:
        self._metrics.watch_reconnects.inc()

    # The watch of one client.

    async def _follow_for(self, connection: Connection, after: str) -> None:
        items: list[Outgoing] = []

        def send(token: str = "", **more: object) -> None:
            if items or token or more:
                payload = {"token": token, "items": [_item(item) for item in items], **more}
                connection.send_event(Event("mobot.event", frames.dump(payload)))
                items.clear()

        feed = TurnFeed(items.append, self._hub.now_ms)
        # Deltas go out between frames; they have no token, because they are in no log.
        pacer = _Pacer(feed, self._delta_interval_s, after_flush=send)
        request = session_service_pb2.WatchEventsRequest(resume_token=after, include_deltas=True, include_sessions=True)
        try:
            watch = follow(self._sessions, request, on_reconnect=self._count_reconnect, forgive_token=False)
            async with aclosing(watch) as incoming:
                async for frame in incoming:
                    await self._complete(feed, frame)
                    feed.feed(frame)
                    more: dict[str, object] = {}
                    if frame.HasField("reset"):
                        more["reset"] = {"message": frame.reset.message}
                    if frame.caught_up:
                        more["caughtUp"] = True
                    send(frame.resume_token, **more)
                    pacer.pace()
        except app_errors.AppError as error:
            logger.info("client watch refused", extra={"reason": error.reason})
            send(error={"reason": error.reason.lower().replace("_", "-"), "message": error.message})
        finally:
            pacer.stop()

    async def _complete(self, feed: TurnFeed, frame: session_service_pb2.WatchEventsResponse) -> None:
        """Looks up the last message of runs that end in this frame and began before the feed listened."""
        for event in frame.events:
            if feed.lacks_message_of(event):
                message = await self._message_of_run(event.session, event.run)
                if message is not None:
                    feed.learn_message(message)

    async def _message_of_run(self, session: str, run: str) -> event_pb2.Event | None:
        request = session_service_pb2.ListEventsRequest(
            parent=session,
            filter=session_service_pb2.EventFilter(kinds=["message"], run=run, session_uid="*"),
            descending=True,
            page_size=_RUN_EVENTS,
        )
        try:
            response = await self._sessions.ListEvents(request)
        except grpc.aio.AioRpcError as error:
            # The turn still ends for the clients; they read the message from the history.
            logger.warning("last message of a run not found", extra={"run": run, "code": error.code().name})
            return None
        return last_message(response.events)


class _Pacer:
    """Flushes a feed's deltas at most once per interval, and soon after the last of them."""

    def __init__(self, feed: TurnFeed, interval_s: float, after_flush: Callable[[], None] | None = None) -> None:
        self._feed = feed
        self._interval_s = interval_s
        self._after_flush = after_flush
        self._loop = asyncio.get_running_loop()
        self._next_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def pace(self) -> None:
        if self._timer is not None or not self._feed.has_unsent:
            return
        wait_s = self._next_s - self._loop.time()
        if wait_s <= 0:
            self._flush()
        else:
            self._timer = self._loop.call_later(wait_s, self._flush)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _flush(self) -> None:
        self._timer = None
        self._next_s = self._loop.time() + self._interval_s
        self._feed.flush()
        if self._after_flush is not None:
            self._after_flush()


def _listener(outgoing: Outgoing) -> Callable[[Connection], bool] | None:
    key = outgoing.key
    match outgoing.audience:
        case Audience.ALL:
            return None
        case Audience.SESSIONS:
            return lambda connection: connection.wants_sessions
        case Audience.MESSAGES:
            return lambda connection: connection.wants_sessions or key in connection.message_keys
        case Audience.TOOLS:
            return lambda connection: "tool-events" in connection.client.caps


def _item(outgoing: Outgoing) -> dict[str, object]:
    what = outgoing.what
    if isinstance(what, StreamDelta):
        return {"event": "chat", "payload": orjson.Fragment(what.to_payloads()[1])}
    item: dict[str, object] = {"event": what.name, "payload": orjson.Fragment(what.payload)}
    if outgoing.sequence:
        item["sequence"] = outgoing.sequence
    return item
