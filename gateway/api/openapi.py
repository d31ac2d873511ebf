"""An OpenAPI document of the table, made from the contracts."""

import re
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from gateway.api.table import Endpoint, pattern_of

_WELL_KNOWN: dict[str, dict[str, Any]] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "example": "3.5s"},
    "google.protobuf.FieldMask": {"type": "string", "example": "text,tags"},
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.Value": {},
}
_SCALARS: dict[int, dict[str, Any]] = {
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "format": "byte"},
    FieldDescriptor.TYPE_DOUBLE: {"type": "number"},
    FieldDescriptor.TYPE_FLOAT: {"type": "number"},
    FieldDescriptor.TYPE_INT32: {"type": "integer"},
    FieldDescriptor.TYPE_INT64: {"type": "string", "format": "int64"},
}


def document(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    schemas: dict[str, Any] = {"Error": _ERROR}
    paths: dict[str, Any] = {}
    for endpoint in endpoints:
        paths.setdefault(_path(endpoint)[0], {})[endpoint.verb.lower()] = _operation(endpoint, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "mobot", "version": version("mobot")},
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "schemas": dict(sorted(schemas.items())),
        },
    }


_ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "code": {"type": "integer"},
                "status": {"type": "string"},
                "reason": {"type": "string"},
                "message": {"type": "string"},
                "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
            },
        }
    },
}


def _path(endpoint: Endpoint) -> tuple[str, list[str]]:
    """The template with a parameter for each part of a name, "bots/{bot}/memories/{memory}", and these parameters."""
    path = re.sub(r"\{[a-z_.]+=([^}]*)\}", r"\1", endpoint.template)
    path = re.sub(r"([a-zA-Z]+)/\*", lambda found: f"{found[1]}/{{{_one_of(found[1])}}}", path)
    return path, re.findall(r"\{([a-z]+)\}", path)


def _one_of(collection: str) -> str:
    return collection.removesuffix("ies") + "y" if collection.endswith("ies") else collection.removesuffix("s")


def _operation(endpoint: Endpoint, schemas: dict[str, Any]) -> dict[str, Any]:
    _, fields = pattern_of(endpoint.template)
    _, parameters = _path(endpoint)
    operation: dict[str, Any] = {
        "operationId": endpoint.method.removeprefix("mobot."),
        "tags": [endpoint.service],
        "summary": f"{endpoint.rpc} of mobot.{endpoint.service}.v1; on the socket: {endpoint.method}",
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in parameters
        ],
        "responses": {
            "200": {
                "description": "The answer",
                "content": {"application/json": {"schema": _schema(endpoint.descriptor.output_type, schemas)}},
            },
            "default": {
                "description": "A refusal",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            },
        },
    }
    if endpoint.rpc == "ExportMemories":
        operation["responses"]["200"]["content"] = {"application/x-ndjson": {"schema": {"type": "string"}}}
    if endpoint.rpc == "ImportMemories":
        operation["requestBody"] = {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}}
        return operation
    if endpoint.body:
        body = endpoint.request
        if endpoint.body != "*":
            body = endpoint.message_of(endpoint.body)
        operation["requestBody"] = {"content": {"application/json": {"schema": _schema(body, schemas)}}}
    if endpoint.body != "*":
        taken = {field.partition(".")[0] for field in fields} | {endpoint.body}
        operation["parameters"] += [
            {"name": field.json_name, "in": "query", "schema": _field(field, schemas)}
            for field in endpoint.request.fields
            if field.name not in taken
        ]
    return operation


def _schema(message: Descriptor, schemas: dict[str, Any]) -> dict[str, Any]:
    known = _WELL_KNOWN.get(message.full_name)
    if known is not None:
        return known
    if message.full_name not in schemas:
        schemas[message.full_name] = {}  # before its fields: messages may hold themselves
        schemas[message.full_name] = {
            "type": "object",
            "properties": {field.json_name: _field(field, schemas) for field in message.fields},
        }
    return {"$ref": f"#/components/schemas/{message.full_name}"}


def _field(field: FieldDescriptor, schemas: dict[str, Any]) -> dict[str, Any]:
    message = field.message_type
    if message is not None and message.GetOptions().map_entry:
        return {"type": "object", "additionalProperties": _field(message.fields_by_name["value"], schemas)}
    if message is not None:
        shape = _schema(message, schemas)
    elif field.enum_type is not None:
        shape = {"type": "string", "enum": [value.name for value in field.enum_type.values]}
    else:
        shape = _SCALARS.get(field.type, {"type": "string"})
    return {"type": "array", "items": shape} if field.is_repeated else shape
