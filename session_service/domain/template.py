"""Templates: fields and a first message that new sessions begin with."""

from dataclasses import dataclass, fields, replace
from typing import Any

from session_service.domain.session import Fields


@dataclass(frozen=True, slots=True)
class Template:
    """`opening` is the text of a first system message, "" for none."""

    template_id: str
    fields: Fields
    opening: str = ""
    version: int = 1
    create_time: int = 0
    update_time: int = 0

    @property
    def name(self) -> str:
        return f"templates/{self.template_id}"

    @property
    def etag(self) -> str:
        return f"W{self.version}"


def fill(given: Fields, template: Fields) -> Fields:
    """`given`, with the template's value wherever it says nothing. Overrides are joined key by key."""
    missing: dict[str, Any] = {
        field.name: getattr(template, field.name)
        for field in fields(Fields)
        if field.name != "overrides" and getattr(given, field.name) == getattr(_NOTHING, field.name)
    }
    return replace(given, **missing, overrides={**template.overrides, **given.overrides})


_NOTHING = Fields()
