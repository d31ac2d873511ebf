"""A memory service in memory: put, list, delete, blocks, and search by words."""

from chassis import errors
from mobot.memory.v1 import block_pb2, memory_pb2, memory_service_pb2, memory_service_pb2_grpc


class FakeMemory(memory_service_pb2_grpc.MemoryServiceServicer):
    def __init__(self) -> None:
        self.memories: list[memory_pb2.Memory] = []
        self.puts = 0
        self.request_ids: dict[str, memory_pb2.Memory] = {}
        self.blocks: dict[str, block_pb2.Block] = {}
        self.block_requests: dict[str, block_pb2.Block] = {}
        self.near: list[memory_pb2.NearDuplicate] = []
        self.changed_by_others = 0
        self.unavailable = False
        self.lose_answers = 0

    def remember(self, bot: str, text: str, **fields) -> str:
        """For tests: a memory that is there already; returns its name."""
        memory = memory_pb2.Memory(name=f"bots/{bot}/memories/m{len(self.memories) + 1}", text=text, **fields)
        self.memories.append(memory)
        return memory.name

    def write_block(self, bot: str, block: str, text: str, **fields) -> None:
        name = f"bots/{bot}/blocks/{block}"
        self.blocks[name] = block_pb2.Block(name=name, text=text, etag="1", version=1, **fields)

    async def PutMemory(self, request, context):
        self.puts += 1
        self._check_own(request.parent, context)
        outcome = memory_pb2.PUT_OUTCOME_CREATED
        memory = self.request_ids.get(request.request_id) if request.request_id else None
        if memory is None:
            known = next((m for m in self.memories if m.text == request.draft.memory.text), None)
            if known is not None:
                return memory_service_pb2.PutMemoryResponse(
                    result=memory_pb2.PutResult(outcome=memory_pb2.PUT_OUTCOME_TOUCHED, memory=known)
                )
            memory = memory_pb2.Memory()
            memory.CopyFrom(request.draft.memory)
            memory.name = f"{request.parent}/memories/m{len(self.memories) + 1}"
            self.memories.append(memory)
            if request.request_id:
                self.request_ids[request.request_id] = memory
        if self.lose_answers:
            self.lose_answers -= 1
            raise errors.Unavailable("the answer was lost", reason=errors.DRAINING)
        near = self.near if request.draft.near_duplicate_limit else []
        return memory_service_pb2.PutMemoryResponse(
            result=memory_pb2.PutResult(outcome=outcome, memory=memory, near_duplicates=near)
        )

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
            memories=[
                m
                for m in reversed(self.memories)
                if m.name.startswith(f"{request.parent}/")
                and (not request.filter.HasField("pinned") or m.pinned == request.filter.pinned)
            ][: request.page_size or 100]
        )

    async def DeleteMemory(self, request, context):
        self._check_own(request.name.partition("/memories/")[0], context)
        for memory in self.memories:
            if memory.name == request.name:
                self.memories.remove(memory)
                return memory_service_pb2.DeleteMemoryResponse(memory=memory)
        raise errors.NotFound("no such memory", reason="MEMORY_NOT_FOUND")

    async def ListBlocks(self, request, context):
        if self.unavailable:
            raise errors.Unavailable("down", reason=errors.DRAINING)
        self._check_own(request.parent, context)
        return memory_service_pb2.ListBlocksResponse(
            blocks=[block for name, block in self.blocks.items() if name.startswith(f"{request.parent}/")]
        )

    async def GetBlock(self, request, context):
        self._check_own(request.name.partition("/blocks/")[0], context)
        if request.name not in self.blocks:
            raise errors.NotFound("no such block", reason="BLOCK_NOT_FOUND")
        return memory_service_pb2.GetBlockResponse(block=self.blocks[request.name])

    async def PutBlock(self, request, context):
        given = request.block
        self._check_own(given.name.partition("/blocks/")[0], context)
        known = self.block_requests.get(request.request_id) if request.request_id else None
        if known is not None and known.text != given.text:
            raise errors.InvalidArgument("used for another request", reason=errors.REQUEST_ID_REUSED)
        if self.changed_by_others:
            self.changed_by_others -= 1
            self.write_block("main", given.name.rpartition("/")[2], "changed by another")
            self.blocks[given.name].etag = f"other{self.changed_by_others}"
        block = self.blocks.get(given.name)
        if block is not None and block.read_only:
            raise errors.FailedPrecondition("read-only", reason="BLOCK_READ_ONLY")
        if given.etag and (block is None or block.etag != given.etag):
            raise errors.Aborted("it has changed", reason="ETAG_MISMATCH")
        version = 1 if block is None else block.version + 1
        stored = block_pb2.Block(name=given.name, text=given.text, version=version, etag=str(version))
        self.blocks[given.name] = stored
        if request.request_id:
            self.block_requests[request.request_id] = stored
        return memory_service_pb2.PutBlockResponse(block=stored, created=block is None)

    def _check_own(self, parent: str, context) -> None:
        actor = dict(context.invocation_metadata()).get("mobot-actor", "")
        if actor.startswith("bots/") and actor != parent:
            raise errors.NotFound("no such bot", reason="BOT_NOT_FOUND")
