"""Grants and audit entries, both ways."""

import re
from datetime import datetime

from chassis import resource_names
from chassis.errors import RESOURCE_NAME_INVALID, FieldViolation, InvalidArgument, field_invalid
from memory_service.convert import checks
from memory_service.convert.memories import to_proto_time
from memory_service.convert.names import parse_block
from memory_service.domain.grant import MAX_DURATION, Access, Grant, GrantAccess, GrantState
from memory_service.domain.memory import Kind
from memory_service.domain.selection import Slice
from memory_service.store.grants import AccessQuery
from mobot.memory.v1 import grant_pb2, memory_pb2, memory_service_pb2

_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


def parse_grant(name: str, field: str = "name") -> tuple[str, str]:
    """The ids of the bot and of the grant."""
    segments = name.split("/")
    if len(segments) != 4 or segments[0] != "bots" or segments[2] != "grants" or not _ID.fullmatch(segments[3]):
        rule = f"must look like bots/{{bot}}/grants/{{grant}}, the last part matching ^{_ID.pattern}$"
        shown = ascii(name[:80])
        raise InvalidArgument(
            f"{field}: {rule} (was {shown})",
            reason=RESOURCE_NAME_INVALID,
            metadata={"field": field, "value": shown, "rule": rule},
            violations=(FieldViolation(field, rule),),
        )
    return resource_names.check_bot_id(segments[1], field=field), segments[3]


def from_proto_grant(
    bot: str, grant: grant_pb2.Grant, grant_id: str, *, principal: str, now: datetime, imported: bool = False
) -> Grant:
    """A grant to be given, or one that was given elsewhere. `grant_id` has been checked or made."""
    grantee = resource_names.parse_bot(grant.grantee, field="grant.grantee")
    if grantee == bot:
        raise field_invalid("grant.grantee", "must be another bot than the owner")
    expire_time = checks.time("grant.expire_time", grant, "expire_time")
    checks.required("grant.expire_time", expire_time)
    assert expire_time is not None
    if expire_time > now + MAX_DURATION or (expire_time <= now and not imported):
        raise field_invalid("grant.expire_time", f"must be in the future and within {MAX_DURATION.days} days")
    memories, blocks = _slice(bot, grant.slice, imported=imported)
    return Grant(
        bot=bot,
        id=grant_id,
        grantee=grantee,
        access=checks.named("grant.access", GrantAccess, grant.access),
        memories=memories,
        blocks=blocks,
        expire_time=expire_time,
        reason=checks.text("grant.reason", grant.reason, 512),
        create_time=now,
        principal=principal,
    )


def check_grant_id(grant_id: str) -> str:
    if not _ID.fullmatch(grant_id):
        raise field_invalid("grant_id", f"must match ^{_ID.pattern}$")
    return grant_id


def to_proto_grant(grant: Grant, now: datetime) -> grant_pb2.Grant:
    memories = grant.memories
    whole = memories == Slice()
    part = grant_pb2.GrantSlice(
        all_memories=whole, blocks=[f"bots/{grant.bot}/blocks/{block_id}" for block_id in grant.blocks]
    )
    if memories is not None:
        part.kinds.extend(memory_pb2.MemoryKind.ValueType(kind) for kind in sorted(memories.kinds))
        part.tags.extend(sorted(memories.tags))
        part.sessions.extend(sorted(memories.sessions))
    return grant_pb2.Grant(
        name=grant.name,
        grantee=f"bots/{grant.grantee}",
        access=grant_pb2.GrantAccess.ValueType(grant.access),
        slice=part,
        expire_time=to_proto_time(grant.expire_time),
        state=grant_pb2.GrantState.ValueType(grant.state(now)),
        reason=grant.reason,
        create_time=to_proto_time(grant.create_time),
        principal=grant.principal,
        revoke_time=to_proto_time(grant.revoke_time),
        access_count=grant.access_count,
        access_time=to_proto_time(grant.access_time),
    )


def to_proto_access(access: Access) -> grant_pb2.AccessRecord:
    return grant_pb2.AccessRecord(
        name=f"bots/{access.bot}/accesses/{access.id}",
        grant=access.grant,
        grantee=f"bots/{access.grantee}",
        method=access.method,
        resources=access.resources,
        resource_count=access.count,
        access_time=to_proto_time(access.time),
        trace_id=access.trace_id,
    )


def from_proto_states(request: memory_service_pb2.ListGrantsRequest) -> frozenset[GrantState]:
    checks.at_most("states", request.states, 100)
    return frozenset(checks.named(f"states[{index}]", GrantState, each) for index, each in enumerate(request.states))


def from_proto_access_query(bot: str, request: memory_service_pb2.ListAccessesRequest) -> AccessQuery | None:
    """None when nothing can be selected: the grant is another bot's."""
    grant = ""
    if request.grant:
        owner, grant = parse_grant(request.grant, "grant")
        if owner != bot:
            return None
    start = checks.time("start_time", request, "start_time")
    end = checks.time("end_time", request, "end_time")
    if start is not None and end is not None and end <= start:
        raise field_invalid("end_time", "must be after start_time")
    grantee = resource_names.parse_bot(request.grantee, field="grantee") if request.grantee else ""
    return AccessQuery(grant, grantee, start, end)


def _slice(bot: str, part: grant_pb2.GrantSlice, *, imported: bool) -> tuple[Slice | None, tuple[str, ...]]:
    field = "grant.slice"
    checks.at_most(f"{field}.kinds", part.kinds, 100)
    kinds = frozenset(checks.named(f"{field}.kinds[{index}]", Kind, number) for index, number in enumerate(part.kinds))
    tags = frozenset(checks.texts(f"{field}.tags", part.tags, 32, 64))
    checks.at_most(f"{field}.sessions", part.sessions, 100)
    sessions = frozenset(
        resource_names.parse_session(name, field=f"{field}.sessions[{index}]").name
        for index, name in enumerate(part.sessions)
    )
    checks.at_most(f"{field}.blocks", part.blocks, 64)
    blocks: dict[str, None] = {}
    for index, name in enumerate(part.blocks):
        owner, block_id = parse_block(name, f"{field}.blocks[{index}]")
        if owner != bot and not imported:
            raise field_invalid(f"{field}.blocks[{index}]", f"must be a block of bots/{bot}")
        blocks[block_id] = None
    narrowed = bool(kinds or tags or sessions)
    if part.all_memories and narrowed:
        raise field_invalid(f"{field}.all_memories", "must be false when kinds, tags or sessions are named")
    if not (part.all_memories or narrowed or blocks):
        raise field_invalid(field, "must name something; all_memories lends every memory")
    return (Slice(kinds, tags, sessions) if part.all_memories or narrowed else None), tuple(blocks)
