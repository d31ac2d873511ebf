"""`mobot watch`: see what happens, as it happens."""

from typing import Annotated

import typer

app = typer.Typer(add_completion=False)
_ABSENT_S = 0.5


@app.command()
def watch(
    session: Annotated[str | None, typer.Argument(help="BOT/SESSION or agent:BOT:SESSION; all when absent.")] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Every event, also what only programs need.")
    ] = False,
    after: Annotated[str, typer.Option(help="Go on after this token (printed with --json).")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, a frame a line, with its token.")] = False,
) -> None:
    """Print events as they are committed, until Ctrl-C. Survives restarts of mobot: each event is printed once."""
    import asyncio
    import sys

    import grpc

    from chassis import resource_names
    from chassis.status import from_rpc_error
    from mobot.registry.v1 import registry_service_pb2
    from mobot.session.v1 import session_service_pb2
    from mobot_cli import addresses, printing, services, transcript

    async def command(mobot: services.Services) -> None:
        request = session_service_pb2.WatchEventsRequest(
            sessions=[addresses.session_name(session)] if session else [],
            resume_token=after,
            after_sequence=-1 if session and not after else 0,
        )
        pause_s, told, lost = 0.2, False, False
        while True:
            try:
                async for frame in mobot.session.WatchEvents(request):
                    pause_s, lost = 0.2, False
                    request.resume_token = frame.resume_token
                    request.after_sequence = 0
                    if as_json:
                        printing.print_json_line(printing.as_json(frame))
                        continue
                    if frame.HasField("reset"):
                        printing.print_line(f"--- events are missing here: {printing.clean(frame.reset.message)} ---")
                    for event in frame.events:
                        block = transcript.lines(event, verbose=verbose)
                        if block is not None:
                            prefix = (
                                "" if session else f"{event.session.removeprefix('bots/').replace('/sessions/', '/')} "
                            )
                            printing.print_line(prefix + block)
                    sys.stdout.flush()
            except grpc.aio.AioRpcError as error:
                if session and error.code() is grpc.StatusCode.NOT_FOUND:
                    missing = from_rpc_error(error)
                    if missing.reason != "SESSION_NOT_FOUND" or request.resume_token:
                        raise
                    # Who watches what is not there yet wants to see it begin.
                    if not told:
                        bot = resource_names.bot_name(resource_names.parse_session(request.sessions[0]).bot)
                        await mobot.registry.GetBot(registry_service_pb2.GetBotRequest(name=bot))
                        sys.stderr.write(f"mobot: there is no session {session} yet; waiting for its first message\n")
                        told = True
                    request.after_sequence = 0
                    await asyncio.sleep(_ABSENT_S)
                    continue
                if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED):
                    raise
                if not lost:
                    lost = True
                    sys.stderr.write("mobot: the connection is lost; waiting for mobot to come back\n")
                await asyncio.sleep(pause_s)
                pause_s = min(5.0, pause_s * 2)

    services.run(command)
