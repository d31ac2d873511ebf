"""Taking sessions out and in, in few words."""

from session_world import name, pb

from mobot.session.v1 import event_pb2, session_pb2

ARCHIVE, MARKDOWN, JSONL = (
    pb.EXPORT_FORMAT_ARCHIVE,
    pb.EXPORT_FORMAT_MARKDOWN,
    pb.EXPORT_FORMAT_OPENCLAW_JSONL,
)
VIEW = pb.SessionView(derived_title=True, last_message_preview=True)


async def export(stub, session: str, kind=ARCHIVE, **fields) -> bytes:
    call = stub.ExportSession(pb.ExportSessionRequest(name=name(session), format=kind, **fields))
    return b"".join([piece.chunk async for piece in call])


async def take(stub, data: bytes, **fields) -> pb.ImportSessionsResponse:
    async def pieces():
        yield pb.ImportSessionsRequest(**fields)
        for start in range(0, len(data), 100_000):
            yield pb.ImportSessionsRequest(chunk=data[start : start + 100_000])

    return await stub.ImportSessions(pieces())


async def whole(stub, session: str, bot: str = "main") -> tuple[session_pb2.Session, list[event_pb2.Event]]:
    found = await stub.GetSession(pb.GetSessionRequest(name=name(session, bot), view=VIEW))
    request = pb.ListEventsRequest(
        parent=name(session, bot), filter=pb.EventFilter(session_uid="*"), page_size=1_000, max_bytes=1 << 30
    )
    return found.session, list((await stub.ListEvents(request)).events)
