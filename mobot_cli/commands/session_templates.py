"""`mobot sessions templates`: what new sessions can begin with."""

from typing import Annotated

import typer

from mobot_cli.commands import session_fields as options

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Templates for new sessions: fields and a first message. `mobot sessions create --template` uses one.",
)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
TemplateArgument = Annotated[str, typer.Argument(help="The template's id: a-z, 0-9 and -.")]
Persistent = Annotated[
    bool | None, typer.Option("--persistent/--not-persistent", help="Whether sessions made from it refuse every reset.")
]
Opening = Annotated[str | None, typer.Option(help="First message of a session, by the system.")]


@app.command("list")
def list_templates(as_json: AsJson = False) -> None:
    """All templates."""
    from mobot.session.v1 import session_pb2, session_service_pb2
    from mobot_cli import printing, services

    async def command(mobot: services.Services) -> None:
        request = session_service_pb2.ListTemplatesRequest(page_size=1_000)
        found: list[session_pb2.SessionTemplate] = []
        while True:
            page = await mobot.session.ListTemplates(request)
            found.extend(page.templates)
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        if as_json:
            printing.print_json([printing.as_json(template) for template in found])
            return
        printing.print_table(
            ["TEMPLATE", "LABEL", "GROUP", "TAGS", "DESCRIPTION", "OPENING"],
            [
                [
                    template.name.removeprefix("templates/"),
                    template.session.label,
                    template.session.group,
                    ", ".join(template.session.tags),
                    printing.clean(template.session.description, limit=40),
                    printing.clean(template.opening, limit=40),
                ]
                for template in found
            ],
            empty="No templates. Make one: mobot sessions templates create daily --group Work",
        )

    services.run(command)


@app.command()
def show(template: TemplateArgument) -> None:
    """Everything about one template, as JSON."""
    from mobot.session.v1 import session_service_pb2
    from mobot_cli import printing, services

    async def command(mobot: services.Services) -> None:
        answer = await mobot.session.GetTemplate(session_service_pb2.GetTemplateRequest(name=_name(template)))
        printing.print_json(printing.as_json(answer.template))

    services.run(command)


@app.command()
def create(
    template: TemplateArgument,
    label: options.Label = None,
    display_name: options.DisplayName = None,
    description: options.Description = None,
    group: options.Group = None,
    tags: options.Tags = None,
    icon: options.Icon = None,
    color: options.Color = None,
    model: options.Model = None,
    pinned: options.Pinned = None,
    persistent: Persistent = None,
    opening: Opening = None,
    as_json: AsJson = False,
) -> None:
    """Make a template."""
    from mobot.session.v1 import session_pb2, session_service_pb2
    from mobot_cli import printing, services

    session, _ = options.fields(
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
    )

    async def command(mobot: services.Services) -> None:
        answer = await mobot.session.CreateTemplate(
            session_service_pb2.CreateTemplateRequest(
                template_id=template.removeprefix("templates/"),
                template=session_pb2.SessionTemplate(session=session, opening=opening or ""),
            )
        )
        if as_json:
            printing.print_json(printing.as_json(answer.template))
        else:
            printing.print_line(f"Created {answer.template.name}")

    services.run(command)


@app.command("set")
def set_template(
    template: TemplateArgument,
    label: options.Label = None,
    display_name: options.DisplayName = None,
    description: options.Description = None,
    group: options.Group = None,
    tags: options.Tags = None,
    icon: options.Icon = None,
    color: options.Color = None,
    model: options.Model = None,
    pinned: options.Pinned = None,
    persistent: Persistent = None,
    opening: Opening = None,
    as_json: AsJson = False,
) -> None:
    """Change a template; sessions that were made from it stay as they are. An empty text clears a field."""
    from google.protobuf import field_mask_pb2

    from mobot.session.v1 import session_pb2, session_service_pb2
    from mobot_cli import printing, services

    session, changed = options.fields(
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
    )
    paths = [f"session.{path}" for path in changed] + (["opening"] if opening is not None else [])
    if not paths:
        raise typer.BadParameter("say what to change; `mobot sessions templates set --help` lists the options")

    async def command(mobot: services.Services) -> None:
        answer = await mobot.session.UpdateTemplate(
            session_service_pb2.UpdateTemplateRequest(
                template=session_pb2.SessionTemplate(name=_name(template), session=session, opening=opening or ""),
                update_mask=field_mask_pb2.FieldMask(paths=paths),
            )
        )
        if as_json:
            printing.print_json(printing.as_json(answer.template))
        else:
            printing.print_line(f"Changed {answer.template.name}")

    services.run(command)


@app.command()
def delete(template: TemplateArgument) -> None:
    """Delete a template; sessions that were made from it stay."""
    from mobot.session.v1 import session_service_pb2
    from mobot_cli import printing, services

    async def command(mobot: services.Services) -> None:
        await mobot.session.DeleteTemplate(session_service_pb2.DeleteTemplateRequest(name=_name(template)))
        printing.print_line(f"Deleted {_name(template)}")

    services.run(command)


def _name(template: str) -> str:
    return f"templates/{template.removeprefix('templates/')}"
