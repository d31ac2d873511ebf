"""Exports: what is asked for, and the token with which a cut one goes on."""

from enum import IntEnum

from chassis.errors import PAGE_TOKEN_INVALID, InvalidArgument
from chassis.paging import PageTokens
from memory_service.convert import checks
from memory_service.convert.filters import from_proto_filter
from memory_service.domain.errors import ResumeTokenInvalid
from memory_service.domain.portability import ExportOptions
from memory_service.store.codec import micros, moment
from memory_service.store.exporting import ExportPlace
from mobot.memory.v1 import memory_service_pb2

_MAX_WINDOW = 1_024


class Format(IntEnum):
    RECORDS = 1
    JSONL = 2


def from_proto_export(request: memory_service_pb2.ExportMemoriesRequest) -> tuple[ExportOptions, Format]:
    checks.between("window", request.window, 0, _MAX_WINDOW)
    options = ExportOptions(
        selected=from_proto_filter(request.filter),
        versions=request.include_versions,
        deleted=request.include_deleted,
        blocks=request.include_blocks if request.HasField("include_blocks") else True,
        grants=request.include_grants,
        vectors=request.include_vectors,
    )
    return options, checks.member("format", Format, request.format, Format.RECORDS)


class ResumeTokens:
    """The tokens of exports: bound to what is exported, signed with the service's secret."""

    def __init__(self, secret: bytes) -> None:
        self._tokens = PageTokens(secret)

    def decode(self, request: memory_service_pb2.ExportMemoriesRequest) -> ExportPlace | None:
        """The place to go on from; None for the beginning. Raises: ResumeTokenInvalid."""
        if not request.resume_token:
            return None
        try:
            position = self._tokens.decode(_query(request), request.resume_token)
        except InvalidArgument as error:
            if error.reason == PAGE_TOKEN_INVALID:
                raise ResumeTokenInvalid from None
            raise
        time, *rest = (int(value) for value in position)
        return ExportPlace(moment(time), *rest)

    def encode(self, request: memory_service_pb2.ExportMemoriesRequest, place: ExportPlace) -> str:
        position = (place.last_key, place.total, place.part, place.after, place.done, place.vector_set)
        return self._tokens.encode(_query(request), (micros(place.time), *position))


def _query(request: memory_service_pb2.ExportMemoriesRequest) -> dict[str, str | int | bool]:
    bare = memory_service_pb2.ExportMemoriesRequest()
    bare.CopyFrom(request)
    bare.ClearField("resume_token")
    bare.ClearField("window")
    return {"export": bare.SerializeToString(deterministic=True).hex()}
