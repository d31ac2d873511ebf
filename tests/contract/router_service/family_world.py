"""A router whose stand-in of the session service makes, forks, archives and deletes sessions."""

import contextlib

import grpc
from router_world import SessionStandIn, World

from chassis.errors import AlreadyExists, FailedPrecondition, NotFound
from mobot.session.v1 import session_service_pb2


class FamilyStandIn(SessionStandIn):
    """Keeps sessions, and answers a request id again as it did before."""

    def __init__(self):
        super().__init__()
        self.sessions = {}
        self.forks = []
        self.resets = []
        self.archived = []
        self.deleted = []
        self.persistent = set()
        self.answers = {}
        self.made = 0
        self.asked = 0
        self.gate = None

    async def CreateSession(self, request, context):
        self.asked += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.down:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "down for a test")
        known = self.answers.get(request.request_id)
        if known is not None:
            return known
        name = f"{request.parent}/sessions/{request.session_id}"
        if request.session.label and any(s.label == request.session.label for s in self.sessions.values()):
            raise AlreadyExists("the label is taken", reason="LABEL_IN_USE")
        existing = name in self.sessions
        if existing and request.conflict_policy == session_service_pb2.CONFLICT_POLICY_FAIL:
            raise AlreadyExists(f"{name} exists", reason="SESSION_ALREADY_EXISTS")
        if existing and request.conflict_policy == session_service_pb2.CONFLICT_POLICY_REPLACE:
            if name in self.persistent:
                raise FailedPrecondition(f"{name} is persistent", reason="SESSION_PERSISTENT")
            self.resets.append(name)
        response = session_service_pb2.CreateSessionResponse(created=not existing)
        response.session.CopyFrom(request.session)
        response.session.name = name
        self.sessions[name] = response.session
        self.made += not existing
        self.answers[request.request_id] = response
        return response

    async def ForkSession(self, request, context):
        response = await self.CreateSession(request.target, context)
        self.forks.append((request.source, response.session.name))
        return session_service_pb2.ForkSessionResponse(session=response.session)

    async def GetSession(self, request, context):
        if request.name not in self.sessions:
            raise NotFound("no such session", reason="SESSION_NOT_FOUND")
        return session_service_pb2.GetSessionResponse(session=self.sessions[request.name])

    async def ArchiveSession(self, request, context):
        if self.down:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "down for a test")
        self.archived.append(request.name)
        return session_service_pb2.ArchiveSessionResponse()

    async def DeleteSession(self, request, context):
        self.deleted.append(request.name)
        return session_service_pb2.DeleteSessionResponse(deleted=True)


def family_world(url, clock, **fields):
    world = World(url, clock, **fields)
    world.sessions = FamilyStandIn()
    return world


@contextlib.asynccontextmanager
async def running_family(url, clock, **fields):
    world = family_world(url, clock, **fields)
    await world.start()
    try:
        yield world
    finally:
        await world.close()
