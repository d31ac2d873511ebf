"""The servicer: each call, in one line, to the part that serves it."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from chassis.identity import caller
from mobot.router.v1 import router_service_pb2
from router_service.servicer.attaching import Attaching
from router_service.servicer.fan_calls import Fan, FanCalls
from router_service.servicer.interventions import Interventions
from router_service.servicer.mailboxes import Mailboxes
from router_service.servicer.sending import Sending

# ruff: noqa: ARG002 - gRPC gives every method a context


class RouterServicer(FanCalls):
    """Serves RouterService. What is not here answers UNIMPLEMENTED, by the generated base class."""

    def __init__(
        self, sending: Sending, attaching: Attaching, mailboxes: Mailboxes, interventions: Interventions, fan: Fan
    ) -> None:
        super().__init__(fan)
        self._sending = sending
        self._attaching = attaching
        self._mailboxes = mailboxes
        self._interventions = interventions

    async def SendMessage(
        self, request: router_service_pb2.SendMessageRequest, context: object
    ) -> router_service_pb2.SendMessageResponse:
        if request.message.topic:
            receipt = await self._fan.topics.publish(request.message, caller())
            return router_service_pb2.SendMessageResponse(receipt=receipt)
        return router_service_pb2.SendMessageResponse(receipt=await self._sending.send_one(request.message, caller()))

    async def Send(self, request_iterator: Any, context: object) -> AsyncIterator[router_service_pb2.SendResponse]:  # noqa: ANN401
        # Closed here, or a call that is cancelled in a write would leave the stream's end to the garbage collector.
        async with aclosing(self._sending.stream(request_iterator, caller())) as responses:
            async for response in responses:
                yield response

    async def AskMessage(
        self, request: router_service_pb2.AskMessageRequest, context: object
    ) -> router_service_pb2.AskMessageResponse:
        return await self._sending.ask(request, caller())

    async def Attach(self, request_iterator: Any, context: object) -> AsyncIterator[router_service_pb2.AttachResponse]:  # noqa: ANN401
        async with aclosing(self._attaching.stream(request_iterator, caller())) as responses:
            async for response in responses:
                yield response

    async def PullDeliveries(
        self, request: router_service_pb2.PullDeliveriesRequest, context: object
    ) -> router_service_pb2.PullDeliveriesResponse:
        return await self._attaching.pull(request, caller())

    async def CompleteDelivery(
        self, request: router_service_pb2.CompleteDeliveryRequest, context: object
    ) -> router_service_pb2.CompleteDeliveryResponse:
        settlement = await self._attaching.complete(request.completion)
        return router_service_pb2.CompleteDeliveryResponse(settlement=settlement)

    async def FailDelivery(
        self, request: router_service_pb2.FailDeliveryRequest, context: object
    ) -> router_service_pb2.FailDeliveryResponse:
        return router_service_pb2.FailDeliveryResponse(settlement=await self._attaching.fail(request.failure))

    async def ExtendDelivery(
        self, request: router_service_pb2.ExtendDeliveryRequest, context: object
    ) -> router_service_pb2.ExtendDeliveryResponse:
        return await self._attaching.extend(request)

    async def GetMessage(
        self, request: router_service_pb2.GetMessageRequest, context: object
    ) -> router_service_pb2.GetMessageResponse:
        return router_service_pb2.GetMessageResponse(message=await self._mailboxes.get(request, caller()))

    async def ListMessages(
        self, request: router_service_pb2.ListMessagesRequest, context: object
    ) -> router_service_pb2.ListMessagesResponse:
        return await self._mailboxes.list_messages(request, caller(), self._fan.watching.as_of)

    async def WaitRun(
        self, request: router_service_pb2.WaitRunRequest, context: object
    ) -> router_service_pb2.WaitRunResponse:
        return await self._mailboxes.wait(request, caller())

    async def CancelRun(
        self, request: router_service_pb2.CancelRunRequest, context: object
    ) -> router_service_pb2.CancelRunResponse:
        return await self._fan.spawning.cancel(request, caller(), self._interventions.cancel)

    async def ResolveRun(
        self, request: router_service_pb2.ResolveRunRequest, context: object
    ) -> router_service_pb2.ResolveRunResponse:
        return await self._interventions.resolve(request, caller())

    async def ListDeadLetters(
        self, request: router_service_pb2.ListDeadLettersRequest, context: object
    ) -> router_service_pb2.ListDeadLettersResponse:
        return await self._mailboxes.list_dead_letters(request, caller())

    async def RedriveDeadLetters(
        self, request: router_service_pb2.RedriveDeadLettersRequest, context: object
    ) -> router_service_pb2.RedriveDeadLettersResponse:
        return await self._interventions.redrive(request, caller())

    async def DiscardDeadLetters(
        self, request: router_service_pb2.DiscardDeadLettersRequest, context: object
    ) -> router_service_pb2.DiscardDeadLettersResponse:
        return await self._interventions.discard(request, caller())

    async def GetMailboxStats(
        self, request: router_service_pb2.GetMailboxStatsRequest, context: object
    ) -> router_service_pb2.GetMailboxStatsResponse:
        return await self._mailboxes.stats(request, caller())
