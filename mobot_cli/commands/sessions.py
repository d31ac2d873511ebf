"""`mobot sessions`: the conversations."""

from typing import Annotated

import typer

from mobot_cli.commands import session_algebra, session_files

app = typer.Typer(
    add_completion=False,
    help="List, create, change, search, fork, merge, share, export and import sessions.",
    invoke_without_command=True,
)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
SessionArgument = Annotated[str, typer.Argument(help="BOT, BOT/SESSION or agent:BOT:SESSION.")]


@app.callback()
def sessions(context: typer.Context, as_json: AsJson = False) -> None:
    if context.invoked_subcommand is None:
        _list(bot=None, text="", limit=50, archived=False, as_json=as_json)


@app.command("list")
def list_sessions(
    bot: Annotated[str | None, typer.Argument(help="Only this bot's.")] = None,
    text: Annotated[str, typer.Option(help="Only those with this text in id, label or description.")] = "",
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 50,
    archived: Annotated[bool, typer.Option(help="The archived ones instead.")] = False,
    as_json: AsJson = False,
) -> None:
    """Sessions, pinned and newest first."""
    _list(bot=bot, text=text, limit=limit, archived=archived, as_json=as_json)


def _list(*, bot: str | None, text: str, limit: int, archived: bool, as_json: bool) -> None:
    from mobot.session.v1 import session_pb2, session_service_pb2
    from mobot_cli import addresses, printing, services

    async def command(mobot: services.Services) -> None:
        request = session_service_pb2.ListSessionsRequest(
            filter=session_service_pb2.SessionFilter(
                bots=[addresses.bot_name(bot)] if bot else [],
                text=text,
                states=[session_pb2.SESSION_STATE_ARCHIVED] if archived else [],
            ),
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
                    ("* " if session.persistent else "") + (session.label or session.derived_title),
                    session_pb2.SessionStatus.Name(session.status).removeprefix("SESSION_STATUS_").lower(),
                    printing.age(session.last_activity_time),
                    str(session.message_count),
                    printing.clean(session.last_message_preview, limit=50),
                ]
                for session in found
            ],
            empty='No sessions. The first message makes one: mobot send main "hello"',
        )
        if total > len(found):
            printing.print_line(f"{len(found)} of {total}; --limit shows more.")

    services.run(command)


@app.command()
def create(
    session: SessionArgument,
    label: Annotated[str, typer.Option(help="Short name, unique within the bot.")] = "",
    description: Annotated[str, typer.Option(help="Free text.")] = "",
    persistent: Annotated[
        bool, typer.Option(help="Protect its context: it refuses every reset. Needs a label.")
    ] = False,
    resume: Annotated[bool, typer.Option(help="Use the session if it exists already.")] = False,
    as_json: AsJson = False,
) -> None:
    """Create a session."""
    from chassis import resource_names
    from mobot.session.v1 import session_pb2, session_service_pb2
    from mobot_cli import addresses, printing, services

    async def command(mobot: services.Services) -> None:
        name = resource_names.parse_session(addresses.session_name(session))
        policy = (
            session_service_pb2.CONFLICT_POLICY_USE_EXISTING if resume else session_service_pb2.CONFLICT_POLICY_FAIL
        )
        answer = await mobot.session.CreateSession(
            session_service_pb2.CreateSessionRequest(
                parent=resource_names.bot_name(name.bot),
                session_id=name.session,
                session=session_pb2.Session(
                    label=label, description=description, persistent=persistent, user_created=True
                ),
                conflict_policy=policy,
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
    """Begin a new transcript; the old one stays readable. A protected session refuses."""
    from mobot.session.v1 import session_service_pb2
    from mobot_cli import addresses, printing, services

    async def command(mobot: services.Services) -> None:
        answer = await mobot.session.ResetSession(
            session_service_pb2.ResetSessionRequest(name=addresses.session_name(session), reason="reset")
        )
        printing.print_line(f"{answer.session.key} begins anew.")

    services.run(command)


@app.command()
def delete(
    session: SessionArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a session; it can be restored for a while."""
    from mobot.session.v1 import session_service_pb2
    from mobot_cli import addresses, printing, services

    if not yes:
        typer.confirm(f"Delete the session {session}?", abort=True)

    async def command(mobot: services.Services) -> None:
        name = addresses.session_name(session)
        meant = (await mobot.session.GetSession(session_service_pb2.GetSessionRequest(name=name))).session
        await mobot.session.DeleteSession(session_service_pb2.DeleteSessionRequest(name=name, expected_uid=meant.uid))
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
    from mobot.session.v1 import session_service_pb2
    from mobot_cli import addresses, printing, services

    async def command(mobot: services.Services) -> None:
        name = addresses.session_name(session)
        if transcript:
            back = await mobot.session.ResetSession(
                session_service_pb2.ResetSessionRequest(name=name, restore_uid=transcript, reason="restored")
            )
            printing.print_line(f"{back.session.key} goes on with {back.session.uid}.")
            return
        answer = await mobot.session.UndeleteSession(session_service_pb2.UndeleteSessionRequest(name=name))
        printing.print_line(f"{answer.session.key} is back.")

    services.run(command)


app.command("export")(session_files.export_session)
app.command("import")(session_files.import_sessions)
app.command()(session_algebra.fork)
app.command()(session_algebra.merge)
app.command()(session_algebra.search)
app.command()(session_algebra.usage)
app.add_typer(session_algebra.share_app, name="share")
