"""`mobot spawn`: a session of its own for a task."""

import uuid
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def spawn(
    bot: Annotated[str, typer.Argument(help="The bot that works on it.")],
    task: Annotated[str, typer.Argument(help="What to do; - reads it from standard input.")],
    session: Annotated[str, typer.Option(help="The session's id, e.g. thread:budget; generated when empty.")] = "",
    parent: Annotated[str, typer.Option(help="The session that gets the result as a message.")] = "",
    label: Annotated[str, typer.Option(help="A short name.")] = "",
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
    persistent: Annotated[bool, typer.Option(help="Protect its context. Needs a label.")] = False,
    if_exists: Annotated[str, typer.Option(help="If there is such a session: fail, use or replace.")] = "fail",
    fork: Annotated[bool, typer.Option(help="Let it know what was said in the parent.")] = False,
    cleanup: Annotated[str, typer.Option(help="When it is done: keep, archive or delete it.")] = "keep",
    timeout: Annotated[float, typer.Option(help="Give it up after so many seconds; 0 for never.", min=0)] = 0,
    key: Annotated[str, typer.Option(help="Idempotency key: the same key never spawns twice.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Give a task to a new session, and do not wait for it.

    `mobot mail wait` waits for its result.
    """
    from datetime import timedelta

    from chassis.errors import field_invalid
    from mobot.router.v1 import message_pb2, router_service_pb2
    from mobot.session.v1 import part_pb2, session_pb2
    from mobot_cli import addresses, printing, services, texts

    text = texts.text_of(task, "task")
    conflicts = {
        "fail": message_pb2.SPAWN_CONFLICT_POLICY_FAIL,
        "use": message_pb2.SPAWN_CONFLICT_POLICY_USE_EXISTING,
        "replace": message_pb2.SPAWN_CONFLICT_POLICY_REPLACE,
    }
    cleanups = {
        "keep": message_pb2.SPAWN_CLEANUP_KEEP,
        "archive": message_pb2.SPAWN_CLEANUP_ARCHIVE,
        "delete": message_pb2.SPAWN_CLEANUP_DELETE,
    }

    async def command(mobot: services.Services) -> None:
        if if_exists not in conflicts:
            raise field_invalid("--if-exists", f"{if_exists!r} is none of {', '.join(conflicts)}")
        if cleanup not in cleanups:
            raise field_invalid("--cleanup", f"{cleanup!r} is none of {', '.join(cleanups)}")
        wish = message_pb2.Spawn(
            parent=addresses.session_name(parent) if parent else "",
            bot=addresses.bot_name(bot),
            session_id=session,
            task=[part_pb2.Part(text=text)],
            conflict_policy=conflicts[if_exists],
            context=message_pb2.SPAWN_CONTEXT_FORKED if fork else message_pb2.SPAWN_CONTEXT_ISOLATED,
            cleanup=cleanups[cleanup],
            announce=bool(parent),
            session=session_pb2.Session(label=label, description=description, persistent=persistent),
        )
        if timeout:
            wish.timeout.FromTimedelta(timedelta(seconds=timeout))
        request = router_service_pb2.SpawnSessionRequest(spawn=wish, request_id=key or str(uuid.uuid4()))
        answer = await mobot.router.SpawnSession(request)
        if as_json:
            printing.print_json(printing.as_json(answer))
            return
        done = "Spawned" if answer.created else "Given to"
        printing.print_line(f"{done} {addresses.short_name(answer.receipt.session)}: run {answer.receipt.run}")
        printing.print_line(f"Wait for it: mobot mail wait {answer.receipt.run}")

    services.run(command)
