"""The servicer: the calls of every part in one class."""

from memory_service.servicer.blocks import BlockCalls
from memory_service.servicer.granting import GrantCalls
from memory_service.servicer.memories import MemoryCalls
from memory_service.servicer.operating import OperationCalls
from memory_service.servicer.portability import PortabilityCalls
from memory_service.servicer.searching import SearchCalls
from memory_service.servicer.statistics import StatsCalls
from memory_service.servicer.streaming import StreamCalls
from mobot.memory.v1 import memory_service_pb2_grpc


class MemoryServicer(
    MemoryCalls,
    SearchCalls,
    BlockCalls,
    GrantCalls,
    OperationCalls,
    PortabilityCalls,
    StatsCalls,
    StreamCalls,
    memory_service_pb2_grpc.MemoryServiceServicer,
):
    """Serves MemoryService wholly."""
