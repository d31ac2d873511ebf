"""What can be said of a session on the command line: the options of `create` and `set`, and the fields they become."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mobot.session.v1 import session_pb2

Label = Annotated[str | None, typer.Option(help="Short name, unique within the bot.")]
DisplayName = Annotated[str | None, typer.Option(help="Longer name to show; need not be unique.")]
Description = Annotated[str | None, typer.Option(help="Free text.")]
Group = Annotated[str | None, typer.Option(help="Group it is listed in.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="A tag; once for each.")]
Icon = Annotated[str | None, typer.Option(help="An emoji, or the name of an icon.")]
Color = Annotated[str | None, typer.Option(help="A colour, by name or as #rrggbb.")]
Model = Annotated[str | None, typer.Option(help="Model to answer with instead of the bot's.")]
Pinned = Annotated[bool | None, typer.Option("--pin/--unpin", help="Keep it at the top of lists.")]
ExpireDays = Annotated[
    float | None, typer.Option(help="Days until it is archived unless it is used; 0 for never.", min=0)
]


def fields(
    *,
    expire_days: float | None = None,
    tags: list[str] | None = None,
    **given: str | bool | None,
) -> tuple["session_pb2.Session", list[str]]:
    """A session with the fields that are given (None is not), and their names."""
    from mobot.session.v1 import session_pb2

    session = session_pb2.Session()
    paths = [name for name, value in given.items() if value is not None]
    for name in paths:
        setattr(session, name, given[name])
    if tags is not None:
        # One empty tag stands for none at all.
        session.tags.extend(tag for tag in tags if tag)
        paths.append("tags")
    if expire_days is not None:
        if expire_days:
            session.expire_time.FromDatetime(datetime.now(UTC) + timedelta(days=expire_days))
        paths.append("expire_time")
    return session, paths
