"""Makes the calls of the table, whoever asked for them."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc.aio
from google.protobuf.message import Message

from chassis import errors, status
from gateway.api import messages
from gateway.api.people import People
from gateway.api.table import Endpoint
from mobot.memory.v1 import memory_service_pb2

FRAME_LINES = 500
FRAME_BYTES = 4 * 1024 * 1024


class Calls:
    """`stubs` are by the service's short name."""

    def __init__(self, stubs: Mapping[str, object], people: People) -> None:
        self._stubs = stubs
        self._people = people

    async def unary(self, endpoint: Endpoint, given: Mapping[str, Any]) -> dict[str, Any]:
        """Raises AppError: the service's refusal, or InvalidArgument when `given` is no such request."""
        request = endpoint.new_request()
        messages.fill(request, given)
        try:
            await self._people.prepare(request)
            response: Message = await self._method(endpoint)(request)
        except grpc.aio.AioRpcError as error:
            raise status.from_rpc_error(error) from error
        return messages.answer(response)

    async def exported(self, endpoint: Endpoint, given: Mapping[str, Any]) -> AsyncIterator[Message]:
        """The frames of an export, as lines. Raises AppError."""
        request = endpoint.new_request()
        messages.fill(request, {**given, "format": "EXPORT_FORMAT_JSONL"})
        call = self._method(endpoint)(request)
        try:
            async for frame in call:
                yield frame
        except grpc.aio.AioRpcError as error:
            raise status.from_rpc_error(error) from error
        finally:
            call.cancel()

    async def imported(
        self, endpoint: Endpoint, options: Mapping[str, Any], lines: AsyncIterator[str]
    ) -> dict[str, Any]:
        """The report of an import. The lines are read no faster than they are stored. Raises AppError."""
        first = memory_service_pb2.ImportMemoriesRequest()
        messages.fill(first, {"options": options})
        broken: list[errors.AppError] = []

        async def frames() -> AsyncIterator[memory_service_pb2.ImportMemoriesRequest]:
            yield first
            frame, size = memory_service_pb2.ImportMemoriesRequest(), 0
            try:
                async for line in lines:
                    frame.lines.append(line)
                    size += len(line)
                    if len(frame.lines) >= FRAME_LINES or size >= FRAME_BYTES:
                        yield frame
                        frame, size = memory_service_pb2.ImportMemoriesRequest(), 0
            except errors.AppError as error:
                # Raised in here it would be lost: the call ends, and then it is told.
                broken.append(error)
            if frame.lines:
                yield frame

        try:
            report = await self._method(endpoint)(frames())
        except grpc.aio.AioRpcError as error:
            raise status.from_rpc_error(error) from error
        if broken:
            raise broken[0]
        return messages.answer(report)

    def _method(self, endpoint: Endpoint) -> Any:  # noqa: ANN401 - a stub's method, found by name
        return getattr(self._stubs[endpoint.service], endpoint.rpc)
