"""`mobot memory grants`: who else may see what a bot remembers, until when, and who did."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from mobot_cli.commands.memory_arguments import AsJson, BotArgument

app = typer.Typer(add_completion=False, help="Let another bot see a part of a bot's memory.", no_args_is_help=True)


@app.command("list")
def list_grants(
    bot: BotArgument,
    received: Annotated[bool, typer.Option(help="Those the bot has got instead of those it gave.")] = False,
    as_json: AsJson = False,
) -> None:
    """The grants in force."""
    from mobot.memory.v1 import grant_pb2, memory_service_pb2
    from mobot_cli import addresses, printing, services

    async def command(mobot: services.Services) -> None:
        request = memory_service_pb2.ListGrantsRequest(parent=addresses.bot_name(bot), page_size=1000)
        if received:
            request.direction = memory_service_pb2.GRANT_DIRECTION_RECEIVED
        grants = (await mobot.memory.ListGrants(request)).grants
        if as_json:
            printing.print_json([printing.as_json(grant) for grant in grants])
            return
        printing.print_table(
            ["GRANT", "TO", "MAY", "UNTIL", "USED"],
            [
                [
                    grant.name,
                    grant.grantee.removeprefix("bots/"),
                    grant_pb2.GrantAccess.Name(grant.access).removeprefix("GRANT_ACCESS_").lower(),
                    printing.clock_time(grant.expire_time),
                    str(grant.access_count),
                ]
                for grant in grants
            ],
            empty="None.",
        )

    services.run(command)


@app.command()
def give(
    bot: BotArgument,
    to: Annotated[str, typer.Argument(help="The bot that gets access.")],
    days: Annotated[float, typer.Option(help="For so many days.", min=0.001, max=366)] = 30,
    write: Annotated[bool, typer.Option(help="Let it write too.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Every memory.")] = False,
    tag: Annotated[list[str] | None, typer.Option(help="Memories with this tag; may be repeated.")] = None,
    session: Annotated[list[str] | None, typer.Option(help="Memories from this session; may be repeated.")] = None,
    block: Annotated[list[str] | None, typer.Option(help="This block; may be repeated.")] = None,
    reason: Annotated[str, typer.Option(help="Why, for people.")] = "",
) -> None:
    """Let another bot see a part of what this one remembers. Every access is recorded."""
    from mobot.memory.v1 import grant_pb2, memory_service_pb2
    from mobot_cli import addresses, printing, services

    async def command(mobot: services.Services) -> None:
        grant = grant_pb2.Grant(
            grantee=addresses.bot_name(to),
            access=grant_pb2.GRANT_ACCESS_WRITE if write else grant_pb2.GRANT_ACCESS_READ,
            slice=grant_pb2.GrantSlice(
                all_memories=everything,
                tags=tag or [],
                sessions=[addresses.session_name(each) for each in session or []],
                blocks=[addresses.block_name(bot, each) for each in block or []],
            ),
            reason=reason,
        )
        grant.expire_time.FromDatetime(datetime.now(UTC) + timedelta(days=days))
        request = memory_service_pb2.CreateGrantRequest(parent=addresses.bot_name(bot), grant=grant)
        made = (await mobot.memory.CreateGrant(request)).grant
        printing.print_line(f"Granted: {made.name}, until {printing.clock_time(made.expire_time)}")

    services.run(command)


@app.command()
def revoke(grant: Annotated[str, typer.Argument(help="The grant's name, bots/BOT/grants/GRANT.")]) -> None:
    """End a grant now."""
    from mobot.memory.v1 import memory_service_pb2
    from mobot_cli import printing, services

    async def command(mobot: services.Services) -> None:
        await mobot.memory.RevokeGrant(memory_service_pb2.RevokeGrantRequest(name=grant))
        printing.print_line(f"Revoked: {grant}")

    services.run(command)


@app.command()
def accesses(
    bot: BotArgument,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=1000)] = 50,
    as_json: AsJson = False,
) -> None:
    """Who saw what of a bot's memory through grants, the newest first."""
    from mobot.memory.v1 import memory_service_pb2
    from mobot_cli import addresses, printing, services

    async def command(mobot: services.Services) -> None:
        request = memory_service_pb2.ListAccessesRequest(parent=addresses.bot_name(bot), page_size=limit)
        found = (await mobot.memory.ListAccesses(request)).accesses
        if as_json:
            printing.print_json([printing.as_json(access) for access in found])
            return
        printing.print_table(
            ["WHEN", "WHO", "CALL", "RESOURCES", "GRANT"],
            [
                [
                    printing.clock_time(access.access_time),
                    access.grantee.removeprefix("bots/"),
                    access.method,
                    str(access.resource_count),
                    access.grant.rsplit("/", 1)[-1],
                ]
                for access in found
            ],
            empty="Nobody yet.",
        )

    services.run(command)
