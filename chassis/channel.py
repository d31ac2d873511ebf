"""Dialling services: where a service runs is a line of configuration, and the stub does not know which.

Cancel a stream that you leave before its end: over a socket gRPC itself keeps a forgotten call, and its handler, alive.
"""

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

import grpc
import grpc.aio

from chassis import errors, policy
from chassis.local_channel import LocalChannel
from chassis.local_context import CallRefused
from chassis.local_handlers import LocalHandlers
from chassis.outgoing import Outgoing
from chassis.server import Service

LOCAL: Final = "local:"
MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024

_OPTIONS: Final[Sequence[tuple[str, Any]]] = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # Status details travel in trailers; the default of 8 KiB would turn a long list of violations into a lost call.
    ("grpc.max_metadata_size", 64 * 1024),
    # A peer that vanished without a word is noticed in 30 s, also on a stream where nothing happens.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # A restarted service is found again in seconds, not in the default two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 3_000),
)

# A process of the same machine is back within a second or not at all, and asking it costs nothing.
_NEIGHBOUR: Final = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 250),
)


class Dialer:
    """The channels of one principal: cached per service, with one identity and one set of policies."""

    def __init__(
        self,
        targets: Mapping[str, str],
        *,
        token: str,
        actor: str | None,
        policies: Mapping[str, policy.MethodPolicy] = policy.DEFAULT,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        """`targets`: short service name -> "local:", "unix:/path", "dns:///host:port" or "host:port".

        `actor` is whom all calls are made for, if not for the token's own principal; a call may name another in its
        metadata. `credentials` make all but local and Unix targets TLS.
        """
        self._targets = targets
        self._policies = policies
        self._outgoing = Outgoing(token, actor, policies)
        self._credentials = credentials
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._local: dict[str, LocalHandlers] = {}

    def dial(self, service: str) -> grpc.aio.Channel:
        """The channel to a service by its short name ("session"). Connects at the first call.

        Raises:
            FailedPrecondition: no target is configured for the service.
        """
        channel = self._channels.get(service)
        if channel is None:
            channel = self._channels[service] = self._open(service)
        return channel

    def add_local(self, service: Service, chain: Sequence[grpc.aio.ServerInterceptor]) -> LocalHandlers:
        """Makes `service` the one that a "local:" target of its name means. Stubs may have been made before."""
        handlers = LocalHandlers(service.name, chain)
        service.register(service.servicer, handlers)
        self.add_handlers(handlers)
        return handlers

    def add_handlers(self, handlers: LocalHandlers) -> None:
        """The same with a running host's own (`ServiceHost.local_handlers`), so that its drain includes local calls."""
        self._local[handlers.service] = handlers

    async def close(self) -> None:
        """Closes the channels; calls in progress are cancelled."""
        channels = list(self._channels.values())
        self._channels.clear()
        for channel in channels:
            await channel.close()

    def _open(self, service: str) -> grpc.aio.Channel:
        target = self._targets.get(service)
        if target is None:
            raise errors.FailedPrecondition(
                f"no target is configured for the {service} service", metadata={"service": service}
            )
        if target == LOCAL:
            return LocalChannel(self._locator(service), self._outgoing)
        return OutgoingChannel(self._connect(service, target), self._outgoing)

    def _connect(self, service: str, target: str) -> grpc.aio.Channel:
        unix = target.startswith("unix:")
        config = policy.service_config_json(
            policy.full_service_name(service), policies=self._policies, round_robin=not unix
        )
        chosen = {**dict(_OPTIONS), **(dict(_NEIGHBOUR) if target.startswith("unix:") else {})}
        options = (*chosen.items(), ("grpc.service_config", config))
        if self._credentials is None or unix:
            return grpc.aio.insecure_channel(target, options=options)
        return grpc.aio.secure_channel(target, self._credentials, options=options)

    def _locator(self, service: str) -> Callable[[], LocalHandlers]:
        def locate() -> LocalHandlers:
            handlers = self._local.get(service)
            if handlers is None:
                raise CallRefused(grpc.StatusCode.UNAVAILABLE, f"the {service} service is not in this process (yet)")
            return handlers

        return locate


class OutgoingChannel(grpc.aio.Channel):
    """A channel that adds metadata and default deadlines.

    Wrapped around the calls rather than given as grpc.aio's client interceptors: those cost a task and a second call
    object for each call, this costs a microsecond.
    """

    def __init__(self, inner: grpc.aio.Channel, outgoing: Outgoing) -> None:
        self._inner = inner
        self._outgoing = outgoing

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as the inner channel takes
        call = self._inner.unary_unary(method, *args, **kwargs)
        metadata = self._outgoing.metadata
        default_timeout_s = self._outgoing.timeout_s(method)

        def unary_unary(request: Any, **options: Any) -> Any:  # noqa: ANN401 - any message type
            options["metadata"] = metadata(options.get("metadata"))
            if options.get("timeout") is None:
                options["timeout"] = default_timeout_s
            return call(request, **options)

        return unary_unary

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as the inner channel takes
        return self._streaming(self._inner.unary_stream(method, *args, **kwargs))

    def stream_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as the inner channel takes
        return self._streaming(self._inner.stream_unary(method, *args, **kwargs))

    def stream_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as the inner channel takes
        return self._streaming(self._inner.stream_stream(method, *args, **kwargs))

    def _streaming(self, call: Any) -> Any:  # noqa: ANN401 - one of three multi-callables
        compose = self._outgoing.metadata

        def streaming(
            requests: Any = None,  # noqa: ANN401 - a message, an iterator or nothing
            timeout: float | None = None,
            metadata: Any = None,  # noqa: ANN401 - Metadata or pairs
            **options: Any,  # noqa: ANN401 - passed on
        ) -> Any:  # noqa: ANN401 - a call object
            return call(requests, timeout=timeout, metadata=compose(metadata), **options)

        return streaming

    async def close(self, grace: float | None = None) -> None:
        await self._inner.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._inner.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._inner.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._inner.channel_ready()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        await self.close()
