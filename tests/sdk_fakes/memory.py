"""A memory service in memory: put, list, and search by words."""

from chassis import errors
from mobot.memory.v1 import memory_pb2, memory_service_pb2, memory_service_pb2_grpc


class FakeMemory(memory_service_pb2_grpc.MemoryServiceServicer):
    def __init__(self) -> None:
        self.memories: list[memory_pb2.Memory] = []
        self.puts = 0
        self.request_ids: dict[str, memory_pb2.Memory] = {}
        self.unavailable = False
        self.lose_answers = 0

    async def PutMemory(self, request, context):
        self.puts += 1
        self._check_own(request.parent, context)
        outcome = memory_pb2.PUT_OUTCOME_CREATED
        memory = self.request_ids.get(request.request_id) if request.request_id else None
        if memory is None:
            memory = memory_pb2.Memory()
            memory.CopyFrom(request.draft.memory)
            memory.name = f"{request.parent}/memories/m{len(self.memories) + 1}"
            self.memories.append(memory)
            if request.request_id:
                self.request_ids[request.request_id] = memory
        if self.lose_answers:
            self.lose_answers -= 1
            raise errors.Unavailable("the answer was lost", reason=errors.DRAINING)
        return memory_service_pb2.PutMemoryResponse(result=memory_pb2.PutResult(outcome=outcome, memory=memory))

    async def SearchMemories(self, request, context):
        if self.unavailable:
            raise errors.Unavailable("down", reason=errors.DRAINING)
        self._check_own(request.parent, context)
        words = set(request.query.lower().split())
        hits = [
            memory_service_pb2.SearchHit(memory=memory, score=0.5)
            for memory in self.memories
            if memory.name.startswith(f"{request.parent}/") and words & set(memory.text.lower().split())
        ]
        return memory_service_pb2.SearchMemoriesResponse(hits=hits[: request.page_size or 10])

    async def ListMemories(self, request, context):
        self._check_own(request.parent, context)
        return memory_service_pb2.ListMemoriesResponse(
            memories=[m for m in reversed(self.memories) if m.name.startswith(f"{request.parent}/")]
        )

    def _check_own(self, parent: str, context) -> None:
        actor = dict(context.invocation_metadata()).get("mobot-actor", "")
        if actor.startswith("bots/") and actor != parent:
            raise errors.NotFound("no such bot", reason="BOT_NOT_FOUND")
