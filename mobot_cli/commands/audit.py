"""`mobot audit`: who did what to whom, and whether it was allowed."""

from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def audit(
    actor: Annotated[str, typer.Option(help="Only what this principal did, e.g. bots/main.")] = "",
    target: Annotated[str, typer.Option(help="Only what was done to this resource.")] = "",
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the record of decisions, the newest first."""
    from mobot.router.v1 import message_pb2, router_service_pb2
    from mobot_cli import addresses, printing, services

    async def command(mobot: services.Services) -> None:
        request = router_service_pb2.ListAuditEntriesRequest(actor=actor, target=target)
        found: list[message_pb2.AuditEntry] = []
        while len(found) < limit:
            request.page_size = min(1000, limit - len(found))
            page = await mobot.router.ListAuditEntries(request)
            found.extend(page.entries)
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        if as_json:
            printing.print_json([printing.as_json(entry) for entry in found])
            return
        printing.print_table(
            ["WHEN", "WHO", "DID", "TO", "RULED", "WHY"],
            [
                [
                    printing.clock_time(entry.create_time),
                    addresses.short_name(entry.actor),
                    entry.action,
                    addresses.short_name(entry.target),
                    "allowed" if entry.allowed else "denied",
                    printing.clean(entry.detail, limit=80),
                ]
                for entry in found
            ],
            empty="Nothing on record.",
        )

    services.run(command)
