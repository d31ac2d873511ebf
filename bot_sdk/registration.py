"""The worker's lease in the registry: registered, kept by heartbeats, registered again when it was lost."""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import grpc.aio

from bot_sdk import convert
from bot_sdk.backoff import Backoff
from bot_sdk.model import BotProfile
from bot_sdk.stubs import TRANSIENT, Stubs, answer
from chassis import errors, status
from chassis.waiting import within
from mobot.registry.v1 import bot_pb2, registry_service_pb2, worker_pb2

CONTRACT_MAJOR_VERSION = 1
CONTRACT_MINOR_VERSION = 0
MIN_REPORT_INTERVAL_S = 0.25
LOAD_LASTS_S = 0.5
"""What a bot is doing is told when it does it for so long; a short turn is no news."""
_MAX_DETAIL_CHARS = 512

_log = logging.getLogger("mobot.sdk.registration")

Call = grpc.aio.StreamStreamCall[registry_service_pb2.HeartbeatRequest, registry_service_pb2.HeartbeatResponse]


@dataclass(frozen=True, slots=True)
class BotLoad:
    """What is told about one bot. `problem` says in one sentence why its brain cannot take turns; empty when it can."""

    in_flight: int
    problem: str = ""


@dataclass(frozen=True, slots=True)
class WorkerIdentity:
    """Who registers. `software` is like "bot_runner/1.0.0"; `labels` are matched by bots that ask for a worker."""

    id: str
    capacity: int
    software: str
    display_name: str = ""
    labels: Mapping[str, str] | None = None


class _LeaseEnded(Exception):
    """The registry knows this registration no more."""


class Registration:
    """`run` keeps the lease; its owner is the worker."""

    def __init__(
        self,
        stubs: Stubs,
        identity: WorkerIdentity,
        *,
        loads: Callable[[], Mapping[str, BotLoad]],
        on_profile: Callable[[BotProfile], None],
        on_removed: Callable[[str], None],
        on_drain: Callable[[str], None],
    ) -> None:
        """`loads` tells the bots served now, by name. The others are called with what the registry says."""
        self._stubs = stubs
        self._identity = identity
        self._loads = loads
        self._on_profile = on_profile
        self._on_removed = on_removed
        self._on_drain = on_drain
        self._lease_id = ""
        self._interval_s = 5.0
        self._sequence = 0
        self._acks_read = 0
        self._served: list[str] = []
        self._told: dict[str, BotLoad] = {}
        self._changed = asyncio.Event()
        self._looking: asyncio.TimerHandle | None = None
        self._leaving = asyncio.Event()
        self._draining = False
        self.registered = asyncio.Event()
        """Set once the registry has accepted this worker for the first time."""
        self.left = asyncio.Event()
        """Set once the registry knows that this worker is gone."""

    @property
    def worker(self) -> str:
        return f"workers/{self._identity.id}"

    def changed(self) -> None:
        """The bots served changed; it is told soon."""
        self._changed.set()

    def load_changed(self) -> None:
        """A bot began to work, or rests. It is told when it has lasted: each report is a commit in the registry."""
        if self._looking is None:
            self._looking = asyncio.get_running_loop().call_later(LOAD_LASTS_S, self._look)

    def drain(self) -> None:
        self._draining = True
        self._changed.set()

    def leave(self) -> None:
        """Gives the lease up with one last report. Nothing may be in flight."""
        self._leaving.set()
        self._changed.set()

    async def run(self) -> None:
        """Registers and reports until it is cancelled or has left.

        Raises:
            chassis.errors.AppError: the registry refuses this worker for good.
        """
        try:
            await self._run()
        finally:
            if self._looking is not None:
                self._looking.cancel()

    async def _run(self) -> None:
        backoff = Backoff()
        while not self._leaving.is_set():
            await self._register(backoff)
            try:
                while not self.left.is_set():
                    await self._report_until_broken()
                    await asyncio.sleep(backoff.next_s())
            except _LeaseEnded:
                _log.warning("lease in the registry lost", extra={"worker": self.worker})
                await asyncio.sleep(backoff.next_s())

    def _look(self) -> None:
        self._looking = None
        if dict(self._loads()) != self._told:
            self._changed.set()

    async def _register(self, backoff: Backoff) -> None:
        missing: set[str] = set()
        while True:
            bots = [bot for bot in self._loads() if bot not in missing]
            try:
                response = await answer(self._stubs.registry.RegisterWorker(self._request(bots)))
            except TRANSIENT as error:
                _log.warning("registration delayed", extra={"reason": error.reason or error.code})
                await asyncio.sleep(backoff.next_s(error.retry_after_s))
            except (errors.NotFound, errors.FailedPrecondition) as error:
                bot = error.metadata.get("bot", "")
                if error.reason not in ("BOT_NOT_FOUND", "BOT_DELETED") or bot in missing or not bot:
                    raise
                # A bot that was deleted a moment ago must not keep the others from being served.
                missing.add(bot)
                self._on_removed(bot)
            else:
                break
        backoff.reset()
        self._lease_id = response.lease_id
        if response.heartbeat_interval.ToNanoseconds() > 0:
            self._interval_s = response.heartbeat_interval.ToNanoseconds() / 1e9
        self._served = bots
        for bot_message in response.bots:
            self._on_profile(convert.to_profile(bot_message))
        self.registered.set()
        _log.info("registered", extra={"worker": self.worker, "bots": len(bots)})

    def _request(self, bots: list[str]) -> registry_service_pb2.RegisterWorkerRequest:
        identity = self._identity
        return registry_service_pb2.RegisterWorkerRequest(
            worker_id=identity.id,
            worker=worker_pb2.Worker(
                bots=bots,
                capacity=identity.capacity,
                contract_major_version=CONTRACT_MAJOR_VERSION,
                contract_minor_version=CONTRACT_MINOR_VERSION,
                host=socket.gethostname()[:255],
                process_id=os.getpid(),
                software_version=identity.software[:128],
                display_name=identity.display_name,
                labels=identity.labels or {},
            ),
        )

    async def _report_until_broken(self) -> None:
        """One heartbeat stream. Returns when it broke or the worker has left."""
        call = self._stubs.registry.Heartbeat()
        self._told = {}
        self._sequence = 0
        self._acks_read = 0
        writer = asyncio.get_running_loop().create_task(self._write_reports(call), name="heartbeat writer")
        try:
            async for frame in call:
                for ack in frame.acks:
                    self._acks_read += 1
                    self._acknowledged(ack)
                if self.left.is_set():
                    return
        except grpc.aio.AioRpcError as error:
            self._check(status.from_rpc_error(error))
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            call.cancel()

    def _check(self, error: errors.AppError) -> None:
        _log.warning("heartbeat stream broken", extra={"reason": error.reason or error.code})
        if isinstance(error, (errors.Unauthenticated, errors.PermissionDenied)):
            raise error

    async def _write_reports(self, call: Call) -> None:
        try:
            while True:
                self._changed.clear()
                await call.write(self._report())
                # Many turns begin and end within a moment; the registry need not hear of each.
                await within(MIN_REPORT_INTERVAL_S, self._leaving.wait())
                await within(max(0.0, self._interval_s - MIN_REPORT_INTERVAL_S), self._changed.wait())
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # the reader sees why the stream ended

    def _report(self) -> registry_service_pb2.HeartbeatRequest:
        loads = self._loads()
        self._sequence += 1
        report = worker_pb2.WorkerReport(
            worker=self.worker,
            lease_id=self._lease_id,
            sequence=self._sequence,
            in_flight_count=sum(load.in_flight for load in loads.values()),
            draining=self._draining,
            leaving=self._leaving.is_set(),
        )
        for bot, load in loads.items():
            if self._told.get(bot) != load:
                report.bots.append(_bot_report(bot, load))
        self._told = dict(loads)
        served = list(loads)
        if served != self._served:
            report.served_bots.bots.extend(served)
            report.served_bots.SetInParent()
            self._served = served
        credit, self._acks_read = self._acks_read, 0
        return registry_service_pb2.HeartbeatRequest(reports=[report], credit=credit)

    def _acknowledged(self, ack: worker_pb2.ReportAck) -> None:
        if ack.outcome == worker_pb2.REPORT_OUTCOME_LEASE_LOST:
            raise _LeaseEnded
        if ack.outcome == worker_pb2.REPORT_OUTCOME_LEFT:
            self.left.set()
        for bot in ack.changed_bots:
            self._on_profile(convert.to_profile(bot))
        for removed in ack.removed_bots:
            self._on_removed(removed)
        if ack.drain and not self._draining:
            self._draining = True
            self._on_drain(ack.detail)


def _bot_report(bot: str, load: BotLoad) -> worker_pb2.BotReport:
    return worker_pb2.BotReport(
        bot=bot,
        in_flight_count=load.in_flight,
        brain_health=bot_pb2.BRAIN_HEALTH_FAILING if load.problem else bot_pb2.BRAIN_HEALTH_HEALTHY,
        detail=load.problem[:_MAX_DETAIL_CHARS],
    )


def software_version(program: str) -> str:
    """ "bot_runner" -> "bot_runner/0.1.0"."""
    try:
        return f"{program}/{version('mobot')}"
    except PackageNotFoundError:
        return program
