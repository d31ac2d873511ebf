"""The people who are asked: when a run stops with a question, two of them answer at once, and only one may prevail."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol, TypeVar

import grpc
import grpc.aio

from mobot.router.v1 import message_pb2, router_service_pb2, router_service_pb2_grpc

T = TypeVar("T")

CHOICES = ("retry", "skip")
_LOOK_S = 0.2
_CALL_S = 10.0
_PAGE = 1_000


class Patiently(Protocol):
    async def __call__(self, call: Callable[[], Awaitable[T]]) -> T: ...


class Deciders:
    """Look again and again at what waits for a person. `patiently` repeats a call until it is answered.

    A tool that must not run twice may have run once more than people said so; `payments` has a line for each time.
    """

    def __init__(
        self,
        router: "router_service_pb2_grpc.RouterServiceAsyncStub",
        metadata: tuple[tuple[str, str], ...],
        payments: Path,
        patiently: Patiently,
    ) -> None:
        self._router = router
        self._metadata = metadata
        self._payments = payments
        self._patiently = patiently
        self._task: asyncio.Task[None] | None = None
        self._deciding: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._questions: Counter[str] = Counter()
        self._retries: Counter[str] = Counter()
        self._numbers: dict[str, int] = {}
        self._amiss: list[str] = []

    def start(self) -> None:
        self._task = asyncio.create_task(self._look_and_decide(), name="deciders")

    def follow(self, run: str, number: int) -> None:
        """The payment with this number is made by that run."""
        self._numbers[run] = number

    async def stop(self) -> None:
        tasks = [*self._deciding.values(), *([self._task] if self._task is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def amiss(self) -> list[str]:
        paid = Counter(self._payments.read_text().split()) if self._payments.exists() else Counter()
        wrong = [f"lost nobody could decide about {run}" for (run, _), task in self._deciding.items() if _failed(task)]
        if self._task is not None and _failed(self._task):
            wrong.append(f"lost the list of questions: {self._task.exception()}")
        for run, number in self._numbers.items():
            allowed = 1 + self._retries[run]
            if paid[str(number)] > allowed:
                wrong.append(f"doubled the payment of {run}: {paid[str(number)]} times, {allowed} allowed")
        return self._amiss + wrong

    async def _look_and_decide(self) -> None:
        while True:
            for message in (await self._patiently(self._waiting)).messages:
                question = (message.run, message.decision_request.call_id)
                if question not in self._deciding:
                    self._questions[message.run] += 1
                    deciding = self._decide(*question, self._questions[message.run])
                    self._deciding[question] = asyncio.create_task(deciding, name=f"decide {message.run}")
            await asyncio.sleep(_LOOK_S)  # people look again

    async def _waiting(self) -> router_service_pb2.ListMessagesResponse:
        request = router_service_pb2.ListMessagesRequest(page_size=_PAGE)
        request.filter.states.append(message_pb2.MESSAGE_STATE_NEEDS_DECISION)
        return await self._router.ListMessages(request, metadata=self._metadata, timeout=_CALL_S)

    async def _decide(self, run: str, question: str, nth: int) -> None:
        told = await asyncio.gather(*(self._answer(run, question, nth, choice) for choice in CHOICES))
        prevailed = [choice for choice, done in zip(CHOICES, told, strict=True) if done]
        if len(prevailed) != 1:
            word = "doubled" if prevailed else "lost"
            self._amiss.append(f"{word} answers to question {nth} of {run} that prevailed: {prevailed}")
        self._retries[run] += prevailed.count("retry")

    async def _answer(self, run: str, question: str, nth: int, choice: str) -> bool:
        """Whether this answer prevailed. The request id makes it the same answer however often it is given."""
        request = router_service_pb2.ResolveRunRequest(run=run, request_id=f"{run}-{nth}-{choice}")
        request.decision.answer, request.decision.call_id = choice, question

        async def give() -> router_service_pb2.ResolveRunResponse:
            return await self._router.ResolveRun(request, metadata=self._metadata, timeout=_CALL_S)

        try:
            await self._patiently(give)
        except grpc.aio.AioRpcError as error:
            if error.code() in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT):
                return False  # somebody else was first
            raise
        return True


def _failed(task: asyncio.Task[None]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is not None
