"""`mobot sessions`: the conversations."""

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from mobot_cli.commands import session_algebra, session_care, session_files, session_templates
from mobot_cli.commands import session_fields as options

if TYPE_CHECKING:
    from mobot.session.v1 import session_service_pb2

app = typer.Typer(
    add_completion=False,
    help="List, create, change, search, fork, merge, share, export and import sessions.",
    short_help="Sessions: list, create, search, fork, share, export, import.",
    invoke_without_command=True,
)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
SessionArgument = Annotated[str, typer.Argument(help="BOT, BOT/SESSION or agent:BOT:SESSION.")]


class Order(Enum):
    """How a list is sorted."""

    PINNED = "pinned"
    ACTIVITY = "activity"
    CREATED = "created"
    NAME = "name"


@app.callback()
def sessions(context: typer.Context, as_json: AsJson = False) -> None:
    if context.invoked_subcommand is None:
        _list(_Narrowed(), Order.PINNED, limit=50, as_json=as_json)


@app.command("list")
def list_sessions(
    bot: Annotated[str | None, typer.Argument(help="Only this bot's.")] = None,
    text: Annotated[str, typer.Option(help="Only those with this text in id, label or description.")] = "",
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 50,
    archived: Annotated[bool, typer.Option(help="The archived ones instead.")] = False,
    deleted: Annotated[bool, typer.Option(help="The deleted ones that can be restored instead.")] = False,
    group: Annotated[str, typer.Option(help="Only those of this group.")] = "",
    tags: Annotated[list[str] | None, typer.Option("--tag", help="Only those with this tag, or all of these.")] = None,
    protected: Annotated[
        bool | None, typer.Option("--protected/--unprotected", help="Only those that refuse a reset, or the others.")
    ] = None,
    running: Annotated[
        bool | None, typer.Option("--running/--idle", help="Only those that are at work, or the others.")
    ] = None,
    parent: Annotated[str, typer.Option(help="Only those that came from this session.")] = "",
    order: Annotated[
        Order, typer.Option(help="pinned: those first, then the newest activity; or by activity, creation or name.")
    ] = Order.PINNED,
    as_json: AsJson = False,
) -> None:
    """Sessions, in the order that is asked for. A star stands before the label of a protected one."""
    which = _Narrowed(bot, text, archived, deleted, group, tuple(tags or ()), protected, running, parent)
    _list(which, order, limit=limit, as_json=as_json)


@dataclass(frozen=True, slots=True)
class _Narrowed:
    """Which sessions are listed; all that is set holds."""

    bot: str | None = None
    text: str = ""
    archived: bool = False
    deleted: bool = False
    group: str = ""
    tags: tuple[str, ...] = ()
    protected: bool | None = None
    running: bool | None = None
    parent: str = ""

    def filter(self) -> "session_service_pb2.SessionFilter":
        from mobot.session.v1 import session_pb2, session_service_pb2
        from mobot_cli import addresses

        archived, deleted = session_pb2.SESSION_STATE_ARCHIVED, session_pb2.SESSION_STATE_DELETED
        states = [archived] * self.archived + [deleted] * self.deleted
        return session_service_pb2.SessionFilter(
            bots=[addresses.bot_name(self.bot)] if self.bot else [],
            text=self.text,
            states=states,
            group=self.group,
            tags=self.tags,
            persistent=self.protected,
            running=self.running,
            parent=addresses.session_name(self.parent) if self.parent else "",
        )


def _list(which: _Narrowed, order: Order, *, limit: int, as_json: bool) -> None:
    from mobot.session.v1 import session_pb2, session_service_pb2
    from mobot_cli import printing, services

    async def command(mobot: services.Services) -> None:
        request = session_service_pb2.ListSessionsRequest(
            filter=which.filter(),
            order=_order(order),
            view=session_service_pb2.SessionView(derived_title=True, last_message_preview=True),
            count_total=True,
        )
        found: list[session_pb2.Session] = []
        total = 0
        while len(found) < limit:
            request.page_size = min(1000, limit - len(found))
            page = await mobot.session.ListSessions(request)
            found.extend(page.sessions)
            total = page.total_count
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        if as_json:
            printing.print_json([printing.as_json(session) for session in found])
            return
        printing.print_table(
            ["SESSION", "LABEL", "STATUS", "ACTIVE", "MESSAGES", "LAST MESSAGE"],
            [
                [
                    session.key,
                    ("* " if session.persistent else "")
                    + (session.label or session.display_name or session.derived_title),
                    session_pb2.SessionStatus.Name(session.status).removeprefix("SESSION_STATUS_").lower(),
                    printing.age(session.last_activity_time),
                    str(session.message_count),
                    printing.clean(session.last_message_preview, limit=50),
                ]
                for session in found
            ],
            empty='No sessions. The first message makes one: mobot send main "hello"'
            if which == _Narrowed()
            else "No session is like that. `mobot sessions list` shows all that are in use.",
        )
        if total > len(found):
            printing.print_line(f"{len(found)} of {total}; --limit shows more.")

    services.run(command)


def _order(order: Order) -> "session_service_pb2.SessionOrder.ValueType":
    from mobot.session.v1 import session_service_pb2

    return {
        Order.PINNED: session_service_pb2.SESSION_ORDER_UNSPECIFIED,
        Order.ACTIVITY: session_service_pb2.SESSION_ORDER_ACTIVITY,
        Order.CREATED: session_service_pb2.SESSION_ORDER_CREATED,
        Order.NAME: session_service_pb2.SESSION_ORDER_NAME,
    }[order]


@app.command()
def create(
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
    expire_days: options.ExpireDays = None,
    persistent: Annotated[
        bool, typer.Option(help="Protect its context: it refuses every reset. Needs a label.")
    ] = False,
    template: Annotated[
        str, typer.Option(help="Template to begin with; what else is said here wins. `templates list` shows them.")
    ] = "",
    parent: Annotated[str, typer.Option(help="Session that it comes from.")] = "",
    based_on: Annotated[str, typer.Option(help="Session whose context it begins with.")] = "",
    at: Annotated[int, typer.Option(help="With --based-on: the last event to take over; 0 for the end.", min=0)] = 0,
    resume: Annotated[bool, typer.Option(help="Use the session if it exists already.")] = False,
    replace: Annotated[bool, typer.Option(help="Begin anew if it exists already, unless it is protected.")] = False,
    as_json: AsJson = False,
) -> None:
    """Create a session."""
    from chassis import resource_names
    from mobot.session.v1 import session_pb2, session_service_pb2
    from mobot_cli import addresses, printing, services

    if resume and replace:
        raise typer.BadParameter("either --resume or --replace")
    policy = session_service_pb2.CONFLICT_POLICY_FAIL
    if resume or replace:
        use, anew = session_service_pb2.CONFLICT_POLICY_USE_EXISTING, session_service_pb2.CONFLICT_POLICY_REPLACE
        policy = use if resume else anew
    draft, _ = options.fields(
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
        persistent=persistent,
        user_created=True,
    )

    async def command(mobot: services.Services) -> None:
        name = resource_names.parse_session(addresses.session_name(session))
        draft.parent = addresses.session_name(parent) if parent else ""
        origin = session_pb2.ForkOrigin(session=addresses.session_name(based_on), sequence=at) if based_on else None
        answer = await mobot.session.CreateSession(
            session_service_pb2.CreateSessionRequest(
                parent=resource_names.bot_name(name.bot),
                session_id=name.session,
                session=draft,
                conflict_policy=policy,
                based_on=origin,
                template=f"templates/{template.removeprefix('templates/')}" if template else "",
            )
        )
        if as_json:
            printing.print_json({"created": answer.created, "session": printing.as_json(answer.session)})
        else:
            printing.print_line(f"{'Created' if answer.created else 'Using'} {answer.session.key}")

    services.run(command)


@app.command()
def show(session: SessionArgument) -> None:
    """Everything about one session, as JSON."""
    from mobot.session.v1 import session_service_pb2
    from mobot_cli import addresses, printing, services

    async def command(mobot: services.Services) -> None:
        answer = await mobot.session.GetSession(
            session_service_pb2.GetSessionRequest(name=addresses.session_name(session))
        )
        printing.print_json(printing.as_json(answer.session))

    services.run(command)


@app.command()
def rename(session: SessionArgument, label: Annotated[str, typer.Argument(help="The new label.")]) -> None:
    """Give a session a label."""
    _update(session, "label", label=label)


@app.command()
def protect(session: SessionArgument) -> None:
    """Protect a session's context: it refuses every reset. It needs a label."""
    _update(session, "persistent", persistent=True)


@app.command()
def unprotect(session: SessionArgument) -> None:
    """Take the protection away."""
    _update(session, "persistent", persistent=False)


def _update(session: str, path: str, *, label: str = "", persistent: bool = False) -> None:
    from google.protobuf import field_mask_pb2

    from mobot.session.v1 import session_pb2, session_service_pb2
    from mobot_cli import addresses, printing, services

    async def command(mobot: services.Services) -> None:
        name = addresses.session_name(session)
        answer = await mobot.session.UpdateSession(
            session_service_pb2.UpdateSessionRequest(
                session=session_pb2.Session(name=name, label=label, persistent=persistent),
                update_mask=field_mask_pb2.FieldMask(paths=[path]),
            )
        )
        printing.print_line(
            f"{answer.session.key}: label {answer.session.label!r}, "
            + ("protected" if answer.session.persistent else "not protected")
        )

    services.run(command)


@app.command()
def reset(session: SessionArgument) -> None:
    """Begin a new transcript; the old one stays readable. What it is doing is stopped. A protected session refuses."""
    from gateway.api.people import People
    from mobot.session.v1 import session_service_pb2
    from mobot_cli import addresses, printing, services

    async def command(mobot: services.Services) -> None:
        request = session_service_pb2.ResetSessionRequest(name=addresses.session_name(session), reason="reset")
        await People(mobot.session, mobot.router).prepare(request)
        answer = await mobot.session.ResetSession(request)
        printing.print_line(f"{answer.session.key} begins anew.")

    services.run(command)


@app.command()
def delete(
    session: SessionArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a session; it can be restored for a while. What it is doing is stopped."""
    from gateway.api.people import People
    from mobot.session.v1 import session_service_pb2
    from mobot_cli import addresses, printing, services

    if not yes:
        typer.confirm(f"Delete the session {session}?", abort=True)

    async def command(mobot: services.Services) -> None:
        name = addresses.session_name(session)
        meant = (await mobot.session.GetSession(session_service_pb2.GetSessionRequest(name=name))).session
        request = session_service_pb2.DeleteSessionRequest(name=name, expected_uid=meant.uid)
        await People(mobot.session, mobot.router).prepare(request)
        await mobot.session.DeleteSession(request)
        printing.print_line(f"Deleted {session}. Bring it back: mobot sessions restore {session}")

    services.run(command)


@app.command()
def restore(
    session: SessionArgument,
    transcript: Annotated[
        str, typer.Option(help="Go back to this former transcript; `show` tells the last one as previousUid.")
    ] = "",
) -> None:
    """Bring a deleted session back, or one that was reset to what it was before."""
    from gateway.api.people import People
    from mobot.session.v1 import session_service_pb2
    from mobot_cli import addresses, printing, services

    async def command(mobot: services.Services) -> None:
        name = addresses.session_name(session)
        if transcript:
            request = session_service_pb2.ResetSessionRequest(name=name, restore_uid=transcript, reason="restored")
            await People(mobot.session, mobot.router).prepare(request)
            back = await mobot.session.ResetSession(request)
            printing.print_line(f"{back.session.key} goes on with {back.session.uid}.")
            return
        answer = await mobot.session.UndeleteSession(session_service_pb2.UndeleteSessionRequest(name=name))
        printing.print_line(f"{answer.session.key} is back.")

    services.run(command)


app.command("set")(session_care.set_fields)
app.command()(session_care.archive)
app.command()(session_care.unarchive)
app.command()(session_care.purge)
app.command()(session_care.groups)
app.add_typer(session_templates.app, name="templates")
app.command("export")(session_files.export_session)
app.command("import")(session_files.import_sessions)
app.command()(session_algebra.fork)
app.command()(session_algebra.merge)
app.command()(session_algebra.search)
app.command()(session_algebra.usage)
app.add_typer(session_algebra.share_app, name="share")
