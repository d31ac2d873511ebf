"""`mobot sessions` set, archive, unarchive, purge and groups."""

from typing import Annotated

import typer

from mobot_cli.commands import session_fields as options

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
SessionArgument = Annotated[str, typer.Argument(help="BOT, BOT/SESSION or agent:BOT:SESSION.")]


def set_fields(
    session: SessionArgument,
    label: options.Label = None,
    display_name: options.DisplayName = None,
    description: options.Description = None,
    group: options.Group = None,
    tags: options.Tags = None,
    icon: options.Icon = None,
    color: options.Color = None,
    model: options.Model = None,
    pinned: options.Pinned = None,
    unread: Annotated[bool | None, typer.Option("--unread/--read", help="Mark it as unread or read.")] = None,
    expire_days: options.ExpireDays = None,
    as_json: AsJson = False,
) -> None:
    """Change what a session is called and how it is listed. An empty text clears a field; tags replace the old ones."""
    from google.protobuf import field_mask_pb2

    from mobot.session.v1 import session_service_pb2
    from mobot_cli import addresses, printing, services

    changed, paths = options.fields(
        expire_days=expire_days,
        tags=tags,
        label=label,
        display_name=display_name,
        description=description,
        group=group,
        icon=icon,
        color=color,
        model=model,
        pinned=pinned,
        unread=unread,
    )
    if not paths:
        raise typer.BadParameter("say what to change; `mobot sessions set --help` lists the options")

    async def command(mobot: services.Services) -> None:
        changed.name = addresses.session_name(session)
        request = session_service_pb2.UpdateSessionRequest(
            session=changed, update_mask=field_mask_pb2.FieldMask(paths=paths)
        )
        answer = await mobot.session.UpdateSession(request)
        if as_json:
            printing.print_json(printing.as_json(answer.session))
        else:
            printing.print_line(f"{answer.session.key}: {', '.join(paths)} changed")

    services.run(command)


def archive(session: SessionArgument) -> None:
    """Put a session away; everything in it is kept."""
    from mobot.session.v1 import session_service_pb2
    from mobot_cli import addresses, printing, services

    async def command(mobot: services.Services) -> None:
        name = addresses.session_name(session)
        answer = await mobot.session.ArchiveSession(session_service_pb2.ArchiveSessionRequest(name=name))
        printing.print_line(f"{answer.session.key} is archived. Back again: mobot sessions unarchive {session}")

    services.run(command)


def unarchive(session: SessionArgument) -> None:
    """Bring a session back from the archive."""
    from mobot.session.v1 import session_service_pb2
    from mobot_cli import addresses, printing, services

    async def command(mobot: services.Services) -> None:
        name = addresses.session_name(session)
        answer = await mobot.session.UnarchiveSession(session_service_pb2.UnarchiveSessionRequest(name=name))
        printing.print_line(f"{answer.session.key} is back.")

    services.run(command)


def purge(
    session: SessionArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove a deleted session for good, with everything that was said in it."""
    from mobot.session.v1 import session_service_pb2
    from mobot_cli import addresses, printing, services

    if not yes:
        typer.confirm(f"Remove {session} and all of its events for good?", abort=True)

    async def command(mobot: services.Services) -> None:
        name = addresses.session_name(session)
        meant = (await mobot.session.GetSession(session_service_pb2.GetSessionRequest(name=name))).session
        request = session_service_pb2.PurgeSessionRequest(name=name, expected_uid=meant.uid)
        answer = await mobot.session.PurgeSession(request)
        printing.print_line(f"{session} is gone, with {answer.event_count} events.")

    services.run(command)


def groups(
    order: Annotated[list[str] | None, typer.Argument(help="Groups in their new order; new ones are made.")] = None,
    rename: Annotated[str, typer.Option(help="OLD=NEW: another name for a group.", metavar="OLD=NEW")] = "",
    remove: Annotated[list[str] | None, typer.Option(help="A group to dissolve; its sessions stay.")] = None,
    as_json: AsJson = False,
) -> None:
    """The groups of sessions, in their order; order, rename or remove them."""
    from mobot.session.v1 import session_service_pb2
    from mobot_cli import printing, services

    old, equals, new = rename.partition("=")
    if rename and not (old and equals and new):
        raise typer.BadParameter("write OLD=NEW", param_hint="--rename")

    async def command(mobot: services.Services) -> None:
        if order or rename or remove:
            await mobot.session.UpdateGroups(
                session_service_pb2.UpdateGroupsRequest(
                    groups=order or (), renames={old: new} if rename else {}, removals=remove or ()
                )
            )
        found = (await mobot.session.ListGroups(session_service_pb2.ListGroupsRequest())).groups
        if as_json:
            printing.print_json([printing.as_json(group) for group in found])
            return
        printing.print_table(
            ["GROUP", "SESSIONS"],
            [[group.group, str(group.session_count)] for group in found],
            empty="No groups. A session gets one: mobot sessions set SESSION --group Work",
        )

    services.run(command)
