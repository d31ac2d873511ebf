"""What a row of the table is: a call of a service, its method on the socket and its address over HTTP."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FileDescriptor, MethodDescriptor
from google.protobuf.message import Message

from chassis.policy import full_service_name
from mobot.memory.v1 import memory_service_pb2
from mobot.router.v1 import router_service_pb2
from mobot.session.v1 import session_service_pb2

_CONTRACTS: Mapping[str, Any] = {
    "memory": memory_service_pb2,
    "router": router_service_pb2,
    "session": session_service_pb2,
}
_VARIABLE = re.compile(r"\{([a-z_.]+)(?:=([^}]*))?\}")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A call. `template` is like "/v1/{name=bots/*/memories/*}:undelete": names in braces are fields of the request.

    `body` is the field that the body holds, "*" for the whole request, "" for a call without one; fields that are in
    neither come from the query.
    """

    method: str
    scope: str
    service: str
    rpc: str
    verb: str
    template: str
    body: str = ""

    @property
    def descriptor(self) -> MethodDescriptor:
        service = full_service_name(self.service).rpartition(".")[2]
        contract: FileDescriptor = _CONTRACTS[self.service].DESCRIPTOR
        return contract.services_by_name[service].methods_by_name[self.rpc]

    @property
    def request(self) -> Descriptor:
        return self.descriptor.input_type

    def new_request(self) -> Message:
        return message_factory.GetMessageClass(self.request)()

    def message_of(self, field: str) -> Descriptor:
        """The type of a field of the request that is a message."""
        found = self.request.fields_by_name[field].message_type
        assert found is not None
        return found


def pattern_of(template: str) -> tuple[re.Pattern[str], tuple[str, ...]]:
    """What a path must look like, and the fields that its groups fill, in order."""
    fields: list[str] = []
    pattern = ""
    end = 0
    for variable in _VARIABLE.finditer(template):
        fields.append(variable[1])
        segments = (variable[2] or "*").split("*")
        pattern += re.escape(template[end : variable.start()]) + "("
        pattern += "[^/]+".join(map(re.escape, segments)) + ")"
        end = variable.end()
    pattern += re.escape(template[end:])
    return re.compile(pattern), tuple(fields)
