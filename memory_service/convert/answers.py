"""What a call answers besides resources: results of puts, figures, marks of state."""

from collections.abc import Sequence

import grpc

from memory_service.convert.memories import to_proto_memory, to_proto_time
from memory_service.convert.searches import to_proto_embedder
from memory_service.domain.embedder import Model
from memory_service.domain.grant import Reach
from memory_service.domain.likeness import NearDuplicate
from memory_service.store.ledger import PutAnswer, PutShown
from memory_service.store.stats import Stats
from memory_service.store.vectors import VectorStats
from mobot.memory.v1 import memory_pb2, memory_service_pb2


def to_proto_put(
    answer: PutAnswer, reach: Reach | None = None, near: Sequence[NearDuplicate] = ()
) -> memory_pb2.PutResult:
    if isinstance(answer, PutShown):
        return memory_pb2.PutResult(
            outcome=memory_pb2.PutOutcome.ValueType(answer.outcome),
            memory=to_proto_memory(answer.memory, reach),
            near_duplicates=[
                memory_pb2.NearDuplicate(memory=each.memory.name, similarity=each.similarity, excerpt=each.excerpt)
                for each in near
            ],
        )
    code: int = grpc.StatusCode[answer.code].value[0]
    return memory_pb2.PutResult(
        refusal=memory_pb2.Refusal(
            code=code, reason=answer.reason, message=answer.message, metadata=dict(answer.metadata)
        )
    )


def to_proto_stats(
    stats: Stats, vectors: VectorStats, *, configured: Model | None, cache_bytes: int
) -> memory_service_pb2.MemoryStats:
    return memory_service_pb2.MemoryStats(
        memory_count=sum(stats.kinds.values()),
        deleted_count=stats.deleted_count,
        block_count=stats.block_count,
        text_bytes=stats.text_bytes,
        vector_bytes=vectors.vector_bytes,
        vector_failed_count=vectors.failed_count,
        embedder=to_proto_embedder(vectors.model),
        configured_embedder=to_proto_embedder(configured),
        cache_bytes=cache_bytes,
        shape=memory_service_pb2.RetrievalShape.ValueType(vectors.shape or 0),
        vector_backlog_count=stats.backlog_count,
        vector_backlog_time=to_proto_time(stats.backlog_time),
        kinds=[
            memory_service_pb2.KindCount(kind=memory_pb2.MemoryKind.ValueType(kind), count=count)
            for kind, count in stats.kinds.items()
        ],
        version_count=stats.version_count,
        bot_count=stats.bot_count,
        grant_count=stats.grant_count,
        operation=stats.operation,
        as_of=to_proto_mark(stats.revision),
    )


def to_proto_mark(revision: int) -> str:
    """The opaque mark of a namespace's state."""
    return f"r{revision:x}"
