"""The people who are asked: whenever a run stops with a question, two of them answer at once, and only one may prevail."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import grpc
import grpc.aio

from ledger.check import FINAL
from mobot.router.v1 import message_pb2, router_service_pb2, router_service_pb2_grpc

T = TypeVar("T")

CHOICES = ("retry", "skip")
_LOOK_S = 0.2
_CALL_S = 10.0


class Deciders:
    """Follows runs until they end. `patiently` repeats a call until it is answered.

    A tool that must not run twice may have run once more than people said so; `payments` has a line for each time.
    """

    def __init__(
        self,
        router: "router_service_pb2_grpc.RouterServiceAsyncStub",
        metadata: tuple[tuple[str, str], ...],
        payments: Path,
        patiently: Callable[[Callable[[], Awaitable[message_pb2.Message]]], Awaitable[message_pb2.Message]],
    ) -> None:
        self._router = router
        self._metadata = metadata
        self._payments = payments
        self._patiently = patiently
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._numbers: dict[str, int] = {}
        self._retries: Counter[str] = Counter()
        self._amiss: list[str] = []
        self.asked = 0

    def follow(self, run: str, number: int) -> None:
        if run not in self._tasks:
            self._numbers[run] = number
            self._tasks[run] = asyncio.create_task(self._follow(run), name=f"decide {run}")

    async def stop(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def amiss(self) -> list[str]:
        paid = Counter(self._payments.read_text().split()) if self._payments.exists() else Counter()
        wrong = [f"lost nobody could decide about {run}" for run, task in self._tasks.items() if _failed(task)]
        for run, number in self._numbers.items():
            allowed = 1 + self._retries[run]
            if paid[str(number)] > allowed:
                wrong.append(f"doubled the payment of {run}: {paid[str(number)]} times, {allowed} allowed")
        return self._amiss + wrong

    async def _follow(self, run: str) -> None:
        seen: set[str] = set()
        while True:
            message = await self._patiently(lambda: self._look(run))
            state = message_pb2.MessageState.Name(message.state).removeprefix("MESSAGE_STATE_")
            if state in FINAL:
                return
            question = message.decision_request.call_id
            if state == "NEEDS_DECISION" and question not in seen:
                seen.add(question)
                await self._decide(run, question, len(seen))
            await asyncio.sleep(_LOOK_S)  # a person who looks again

    async def _decide(self, run: str, question: str, nth: int) -> None:
        self.asked += 1
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

        async def give() -> message_pb2.Message:
            answer = await self._router.ResolveRun(request, metadata=self._metadata, timeout=_CALL_S)
            return answer.message

        try:
            await self._patiently(give)
        except grpc.aio.AioRpcError as error:
            if error.code() in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT):
                return False  # somebody else was first
            raise
        return True

    async def _look(self, run: str) -> message_pb2.Message:
        request = router_service_pb2.GetMessageRequest(run=run)
        return (await self._router.GetMessage(request, metadata=self._metadata, timeout=_CALL_S)).message


def _failed(task: asyncio.Task[None]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is not None
