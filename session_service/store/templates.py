"""Templates in the database."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, delete, insert, select, update

from session_service.domain import errors
from session_service.domain.session import Fields
from session_service.domain.template import Template
from session_service.models import SESSION_TEMPLATE
from session_service.store.log import head_position
from session_service.store.transaction import Transaction

_c = SESSION_TEMPLATE.c
_COLUMNS = (_c.template_id, _c.fields, _c.opening, _c.version, _c.create_time, _c.update_time)


class TemplatePage(NamedTuple):
    """`more`: whether templates follow the last one."""

    templates: list[Template]
    more: bool
    as_of: int


def find_template(conn: Connection, template_id: str) -> Template:
    """Raises TemplateNotFound."""
    row = conn.execute(select(*_COLUMNS).where(_c.template_id == template_id)).one_or_none()
    if row is None:
        raise errors.TemplateNotFound(f"templates/{template_id}")
    return _to_template(tuple(row))


def list_templates(conn: Connection, after: str, size: int) -> TemplatePage:
    """In the order of their ids, those after `after`."""
    as_of = head_position(conn)
    rows = conn.execute(select(*_COLUMNS).where(_c.template_id > after).order_by(_c.template_id).limit(size + 1)).all()
    return TemplatePage([_to_template(tuple(row)) for row in rows[:size]], len(rows) > size, as_of)


def create_template(tx: Transaction, template: Template) -> Template:
    """Raises TemplateAlreadyExists."""
    found = select(_c.template_id).where(_c.template_id == template.template_id)
    if tx.conn.execute(found).scalar() is not None:
        raise errors.TemplateAlreadyExists(template.name)
    created = replace(template, create_time=tx.now, update_time=tx.now)
    tx.conn.execute(insert(SESSION_TEMPLATE), {"template_id": created.template_id, **_values(created)})
    return created


def update_template(
    tx: Transaction, template_id: str, change: Callable[[Template], Template], *, etag: str
) -> Template:
    """Raises TemplateNotFound, EtagMismatch."""
    before = _expected(tx, template_id, etag)
    after = change(before)
    if after == before:
        return before
    after = replace(after, version=before.version + 1, update_time=tx.now)
    tx.conn.execute(update(SESSION_TEMPLATE).where(_c.template_id == template_id).values(**_values(after)))
    return after


def delete_template(tx: Transaction, template_id: str, *, etag: str) -> None:
    """Raises TemplateNotFound, EtagMismatch."""
    _expected(tx, template_id, etag)
    tx.conn.execute(delete(SESSION_TEMPLATE).where(_c.template_id == template_id))


def _expected(tx: Transaction, template_id: str, etag: str) -> Template:
    template = find_template(tx.conn, template_id)
    if etag and etag != template.etag:
        raise errors.EtagMismatch(template.name, given=etag, etag=template.etag)
    return template


def _to_template(row: tuple[Any, ...]) -> Template:
    template_id, fields, *rest = row
    values = orjson.loads(fields)
    return Template(template_id, Fields(**{**values, "tags": tuple(values["tags"])}), *rest)


def _values(template: Template) -> Mapping[str, Any]:
    return {
        "fields": orjson.dumps(asdict(template.fields)).decode(),
        "opening": template.opening,
        "version": template.version,
        "create_time": template.create_time,
        "update_time": template.update_time,
    }
