"""Templates: to messages and from them."""

import re
from collections.abc import Callable
from dataclasses import replace

from google.protobuf.field_mask_pb2 import FieldMask

from chassis.errors import field_invalid
from mobot.session.v1 import session_pb2
from session_service.convert.checks import check_text, to_timestamp
from session_service.convert.sessions import from_proto_change, from_proto_fields, to_proto_fields
from session_service.domain.session import Fields
from session_service.domain.template import Template

MAX_OPENING = 64 * 1024

_ID = re.compile(r"[a-z0-9-]{1,64}", re.ASCII)
_PREFIX = "templates/"

Change = Callable[[Template], Template]


def from_proto_template_id(template_id: str, field: str = "template_id") -> str:
    if not _ID.fullmatch(template_id):
        raise field_invalid(field, "must be 1 to 64 characters of a-z 0-9 and -", value=template_id[:64])
    return template_id


def from_proto_template_name(name: str, field: str = "name") -> str:
    """The id in a resource name."""
    if not name.startswith(_PREFIX):
        raise field_invalid(field, "must be templates/{template}", value=name[:64])
    return from_proto_template_id(name.removeprefix(_PREFIX), field)


def to_proto_template(template: Template) -> session_pb2.SessionTemplate:
    return session_pb2.SessionTemplate(
        name=template.name,
        session=to_proto_fields(template.fields),
        opening=template.opening,
        etag=template.etag,
        create_time=to_timestamp(template.create_time),
        update_time=to_timestamp(template.update_time),
    )


def from_proto_template(template_id: str, given: session_pb2.SessionTemplate) -> Template:
    """A template to be created; output-only fields are ignored."""
    return Template(from_proto_template_id(template_id), from_proto_fields(given.session), _opening(given))


def from_proto_template_change(given: session_pb2.SessionTemplate, mask: FieldMask | None) -> Change:
    """What an update does. Paths are "opening", "session" and "session.{field}"; without a mask: what is set."""
    opening = _opening(given)
    paths = list(mask.paths) if mask is not None and mask.paths else _set_fields(given)
    whole = from_proto_fields(given.session) if "session" in paths else None
    nested = [path.removeprefix("session.") for path in paths if path.startswith("session.")]
    for path in paths:
        if path not in ("opening", "session") and not path.startswith("session."):
            raise field_invalid("update_mask", f"names {path!r}, which is no editable field of a template", path=path)
    change = from_proto_change(given.session, FieldMask(paths=nested)) if nested else _unchanged

    def apply(before: Template) -> Template:
        fields = change(before.fields if whole is None else whole)
        return replace(before, fields=fields, opening=opening if "opening" in paths else before.opening)

    return apply


def _unchanged(fields: Fields) -> Fields:
    return fields


def _set_fields(given: session_pb2.SessionTemplate) -> list[str]:
    return [field.name for field, _ in given.ListFields() if field.name in ("opening", "session")]


def _opening(given: session_pb2.SessionTemplate) -> str:
    return check_text("template.opening", given.opening, MAX_OPENING, lines=True)
