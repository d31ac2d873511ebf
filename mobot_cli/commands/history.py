"""`mobot history`: read a session."""

from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def history(
    session: Annotated[str, typer.Argument(help="BOT, BOT/SESSION or agent:BOT:SESSION.")],
    limit: Annotated[int, typer.Option(help="The newest so many events; 0 for all.", min=0)] = 50,
    all_transcripts: Annotated[bool, typer.Option("--all", help="Transcripts before resets too.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Every event, also what only programs need.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, an event a line.")] = False,
) -> None:
    """Print a session's transcript, oldest first."""
    from mobot.session.v1 import event_pb2, session_service_pb2
    from mobot_cli import addresses, printing, services, transcript

    async def command(mobot: services.Services) -> None:
        request = session_service_pb2.ListEventsRequest(
            parent=addresses.session_name(session),
            filter=session_service_pb2.EventFilter(session_uid="*" if all_transcripts else ""),
            descending=True,
        )
        newest_first: list[event_pb2.Event] = []
        while not limit or len(newest_first) < limit:
            request.page_size = min(1000, limit - len(newest_first)) if limit else 1000
            page = await mobot.session.ListEvents(request)
            newest_first.extend(page.events)
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        printed = False
        for event in reversed(newest_first):
            if as_json:
                printing.print_json_line(printing.as_json(event))
                printed = True
            elif (block := transcript.lines(event, verbose=verbose)) is not None:
                printing.print_line(block)
                printed = True
        if not printed and not as_json:
            printing.print_line("Nothing said yet.")

    services.run(command)
