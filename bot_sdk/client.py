"""A plain, synchronous client for scripts and notebooks: send, ask, read, remember.

with MobotClient.connect() as mobot:
    print(mobot.ask("bots/main", "good morning"))
"""

import time
import uuid
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import grpc
import grpc.aio

from bot_sdk import convert, memory_convert
from bot_sdk.errors import NoReply
from bot_sdk.mail import MAX_WAIT_S, set_destination
from bot_sdk.model import BotSummary, Entry, Memory, Receipt, RunResult, SessionInfo
from chassis import policy, resource_names, status
from chassis.identity import caller_metadata
from chassis.settings import ChassisSettings, TargetSettings, load, root_token
from mobot.memory.v1 import memory_pb2, memory_service_pb2, memory_service_pb2_grpc
from mobot.registry.v1 import registry_service_pb2, registry_service_pb2_grpc
from mobot.router.v1 import message_pb2, router_service_pb2, router_service_pb2_grpc
from mobot.session.v1 import session_service_pb2, session_service_pb2_grpc

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
_ONE_WAIT_S = 30.0
_SERVICES = ("registry", "session", "memory", "router")

Response = TypeVar("Response")


class MobotClient:
    """One principal's calls, over one channel for each service. Threads may share it.

    All methods raise `chassis.errors.AppError` with the service's reason.
    """

    def __init__(self, channels: Mapping[str, grpc.Channel], *, token: str = "", actor: str | None = None) -> None:
        """`channels` are by short service name; they are closed with the client. `actor` is whom to act for."""
        self._channels = channels
        self._metadata = caller_metadata(token, actor) if token else ()
        self._registry = registry_service_pb2_grpc.RegistryServiceStub(channels["registry"])
        self._session = session_service_pb2_grpc.SessionServiceStub(channels["session"])
        self._memory = memory_service_pb2_grpc.MemoryServiceStub(channels["memory"])
        self._router = router_service_pb2_grpc.RouterServiceStub(channels["router"])

    @classmethod
    def connect(
        cls, targets: Mapping[str, str] | None = None, *, token: str | None = None, actor: str | None = None
    ) -> "MobotClient":
        """A client of the mobot that the MOBOT_* variables describe, by default the one of this user on this machine.

        Raises:
            SettingsError: the variables cannot be used as they are.
        """
        where = load(TargetSettings).targets() if targets is None else targets
        secret = root_token(load(ChassisSettings)) if token is None else token
        return cls({service: _channel(service, where[service]) for service in _SERVICES}, token=secret, actor=actor)

    def close(self) -> None:
        for channel in self._channels.values():
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self.close()

    def send(self, to: str, text: str, *, idempotency_key: str = "", user_input: bool = True) -> Receipt:
        """Sends to a bot (`bots/{bot}`), a session (resource name or `agent:{bot}:{session}`) or a topic.

        Returns once the message is durable; nobody has read it by then. The same key and content send once.
        """
        draft = message_pb2.MessageDraft(
            parts=convert.text_parts(text),
            idempotency_key=idempotency_key or str(uuid.uuid4()),
            user_input=user_input,
        )
        set_destination(draft, to)
        request = router_service_pb2.SendMessageRequest(message=draft)
        return convert.to_receipt(self._call(self._router.SendMessage, request, retries=3).receipt)

    def ask(self, to: str, text: str, *, timeout_s: float = 60.0, idempotency_key: str = "") -> str:
        """Sends, and waits at most `timeout_s` seconds (10 minutes at most) for the reply.

        Raises:
            NoReply: the message was delivered and there is no reply; its `result` tells why.
        """
        result = self.wait(self.send(to, text, idempotency_key=idempotency_key).run, timeout_s=timeout_s)
        if not result.succeeded:
            raise NoReply(result)
        return result.reply

    def wait(self, run: str, *, timeout_s: float = 60.0) -> RunResult:
        """What became of a run after at most `timeout_s` seconds; `done` is False when it still goes on."""
        deadline = time.monotonic() + min(timeout_s, MAX_WAIT_S)
        while True:
            request = router_service_pb2.WaitRunRequest(run=run)
            left_s = max(0.05, deadline - time.monotonic())
            request.timeout.CopyFrom(convert.to_duration(min(left_s, _ONE_WAIT_S)))
            response = self._call(self._router.WaitRun, request)
            if response.done or time.monotonic() >= deadline:
                return convert.to_run_result(response.message, done=response.done)

    def bots(self) -> tuple[BotSummary, ...]:
        """All bots, by name."""
        found: list[BotSummary] = []
        request = registry_service_pb2.ListBotsRequest(page_size=1_000)
        while True:
            response = self._call(self._registry.ListBots, request)
            found.extend(convert.to_bot_summary(bot) for bot in response.bots)
            if not response.next_page_token:
                return tuple(found)
            request.page_token = response.next_page_token

    def sessions(self, bot: str, *, limit: int = 100) -> tuple[SessionInfo, ...]:
        """Sessions of `bots/{bot}`, pinned and newest activity first."""
        request = session_service_pb2.ListSessionsRequest(
            filter=session_service_pb2.SessionFilter(bots=[bot]), page_size=limit
        )
        return tuple(
            convert.to_session(session) for session in self._call(self._session.ListSessions, request).sessions
        )

    def history(self, session: str, *, limit: int = 50, tools: bool = False) -> tuple[Entry, ...]:
        """The newest entries of a session's transcript, oldest of them first. Takes names and keys."""
        if session.startswith("agent:"):
            session = resource_names.parse_session_key(session).name
        kinds = ["message", "tool_called", "tool_returned"] if tools else ["message"]
        request = session_service_pb2.ListEventsRequest(
            parent=session,
            filter=session_service_pb2.EventFilter(kinds=kinds),
            descending=True,
            page_size=limit,
        )
        return convert.to_entries(reversed(self._call(self._session.ListEvents, request).events))

    def remember(self, bot: str, text: str, *, kind: str = "note", tags: tuple[str, ...] = ()) -> Memory:
        """Puts a memory into `bots/{bot}`; the same text again only counts as used."""
        draft = memory_pb2.MemoryDraft(
            memory=memory_pb2.Memory(text=text, kind=memory_convert.from_memory_kind(kind), tags=tags)
        )
        request = memory_service_pb2.PutMemoryRequest(parent=bot, draft=draft, request_id=str(uuid.uuid4()))
        return memory_convert.to_memory(self._call(self._memory.PutMemory, request).result.memory)

    def recall(self, bot: str, query: str, *, limit: int = 10) -> tuple[Memory, ...]:
        """The memories of `bots/{bot}` that fit best, best first."""
        request = memory_service_pb2.SearchMemoriesRequest(parent=bot, query=query, page_size=limit)
        return memory_convert.to_found(self._call(self._memory.SearchMemories, request).hits)

    def _call(self, method: Callable[..., Response], request: object, *, retries: int = 0) -> Response:
        name = _method_of(request)
        while True:
            try:
                return method(request, timeout=policy.policy_for(name).timeout_s, metadata=self._metadata)
            except grpc.RpcError as error:
                # A failed synchronous call answers code(), details() and trailing_metadata() just as an aio error does.
                restored = status.from_rpc_error(cast(grpc.aio.AioRpcError, error))
                if restored.code != "UNAVAILABLE" or not retries:
                    raise restored from error
                retries -= 1
                time.sleep(0.1)


def _method_of(request: object) -> str:
    """ "/mobot.router.v1.RouterService/WaitRun" of a WaitRunRequest."""
    descriptor: Any = type(request).DESCRIPTOR  # type: ignore[attr-defined]
    package = descriptor.file.package
    service = policy.full_service_name(package.split(".")[1])
    return f"/{service}/{descriptor.name.removesuffix('Request')}"


def _channel(service: str, target: str) -> grpc.Channel:
    config = policy.service_config_json(policy.full_service_name(service))
    return grpc.insecure_channel(
        target,
        options=(
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_metadata_size", 64 * 1024),
            ("grpc.service_config", config),
        ),
    )
