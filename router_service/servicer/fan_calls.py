"""The calls about children, schedules, topics, policy and record: each, in one line, to the part that serves it."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

from chassis.identity import caller
from mobot.router.v1 import router_service_pb2 as pb
from mobot.router.v1 import router_service_pb2_grpc
from router_service.servicer.policies import Policies
from router_service.servicer.schedules import Schedules
from router_service.servicer.spawning import Spawning
from router_service.servicer.topics import Topics
from router_service.servicer.watching import Watching

# ruff: noqa: ARG002 - gRPC gives every method a context


@dataclass(frozen=True, slots=True)
class Fan:
    """Who serves them."""

    spawning: Spawning
    schedules: Schedules
    topics: Topics
    policies: Policies
    watching: Watching


class FanCalls(router_service_pb2_grpc.RouterServiceServicer):
    """A part of RouterService."""

    def __init__(self, fan: Fan) -> None:
        self._fan = fan

    async def SpawnSession(self, request: pb.SpawnSessionRequest, context: object) -> pb.SpawnSessionResponse:
        return await self._fan.spawning.spawn(request, caller())

    async def CreateSchedule(self, request: pb.CreateScheduleRequest, context: object) -> pb.CreateScheduleResponse:
        return await self._fan.schedules.create(request, caller())

    async def UpdateSchedule(self, request: pb.UpdateScheduleRequest, context: object) -> pb.UpdateScheduleResponse:
        return await self._fan.schedules.update(request, caller())

    async def DeleteSchedule(self, request: pb.DeleteScheduleRequest, context: object) -> pb.DeleteScheduleResponse:
        return await self._fan.schedules.delete(request, caller())

    async def ListSchedules(self, request: pb.ListSchedulesRequest, context: object) -> pb.ListSchedulesResponse:
        return await self._fan.schedules.list_schedules(request, caller())

    async def RunSchedule(self, request: pb.RunScheduleRequest, context: object) -> pb.RunScheduleResponse:
        return await self._fan.schedules.run(request, caller())

    async def CreateTopic(self, request: pb.CreateTopicRequest, context: object) -> pb.CreateTopicResponse:
        return await self._fan.topics.create(request, caller())

    async def DeleteTopic(self, request: pb.DeleteTopicRequest, context: object) -> pb.DeleteTopicResponse:
        return await self._fan.topics.delete(request, caller())

    async def ListTopics(self, request: pb.ListTopicsRequest, context: object) -> pb.ListTopicsResponse:
        return await self._fan.topics.list_topics(request, caller())

    async def SubscribeTopic(self, request: pb.SubscribeTopicRequest, context: object) -> pb.SubscribeTopicResponse:
        return await self._fan.topics.subscribe(request, caller())

    async def UnsubscribeTopic(
        self, request: pb.UnsubscribeTopicRequest, context: object
    ) -> pb.UnsubscribeTopicResponse:
        return await self._fan.topics.unsubscribe(request, caller())

    async def PublishTopic(self, request: pb.PublishTopicRequest, context: object) -> pb.PublishTopicResponse:
        return pb.PublishTopicResponse(receipt=await self._fan.topics.publish(request.message, caller()))

    async def WatchMessages(
        self, request: pb.WatchMessagesRequest, context: object
    ) -> AsyncIterator[pb.WatchMessagesResponse]:
        async with aclosing(self._fan.watching.messages(request, caller())) as frames:
            async for frame in frames:
                yield frame

    async def WatchMailboxes(
        self, request: pb.WatchMailboxesRequest, context: object
    ) -> AsyncIterator[pb.WatchMailboxesResponse]:
        async with aclosing(self._fan.watching.mailboxes(request, caller())) as frames:
            async for frame in frames:
                yield frame

    async def GetPolicy(self, request: pb.GetPolicyRequest, context: object) -> pb.GetPolicyResponse:
        return pb.GetPolicyResponse(policy=await self._fan.policies.get(caller()))

    async def SetPolicy(self, request: pb.SetPolicyRequest, context: object) -> pb.SetPolicyResponse:
        return await self._fan.policies.set(request, caller())

    async def ListAuditEntries(
        self, request: pb.ListAuditEntriesRequest, context: object
    ) -> pb.ListAuditEntriesResponse:
        return await self._fan.policies.list_entries(request, caller())
