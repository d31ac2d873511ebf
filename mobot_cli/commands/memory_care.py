"""`mobot memory stats|reindex|erase|operations`: how a bot's memory is, and the long works on it."""

from typing import TYPE_CHECKING, Annotated

import typer

from mobot_cli.commands.memory_arguments import AsJson, BotArgument

if TYPE_CHECKING:
    from mobot.memory.v1 import memory_service_pb2, operation_pb2
    from mobot_cli.services import Services

_POLL_S = 0.3
WaitOption = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the end and show how far it is.")]


def add_to(app: typer.Typer) -> None:
    app.command()(stats)
    app.command()(reindex)
    app.command()(erase)
    app.command()(operations)


def stats(
    bot: Annotated[str, typer.Argument(help="The bot; all together when absent.")] = "",
    as_json: AsJson = False,
) -> None:
    """How much is remembered, and whether every memory is found by meaning yet."""
    from mobot.memory.v1 import memory_service_pb2
    from mobot_cli import addresses, printing, services

    async def command(mobot: services.Services) -> None:
        name = addresses.bot_name(bot) if bot else "bots/-"
        answer = await mobot.memory.GetMemoryStats(memory_service_pb2.GetMemoryStatsRequest(name=name))
        if as_json:
            printing.print_json(printing.as_json(answer.stats))
        else:
            printing.print_table(["FIGURE", "VALUE"], _rows(answer.stats), empty="")

    services.run(command)


def _rows(stats: "memory_service_pb2.MemoryStats") -> list[list[str]]:
    from mobot.memory.v1 import memory_pb2
    from mobot_cli import printing

    kinds = ", ".join(
        f"{each.count} {memory_pb2.MemoryKind.Name(each.kind).removeprefix('MEMORY_KIND_').lower()}"
        for each in stats.kinds
    )
    backlog = str(stats.vector_backlog_count)
    if stats.HasField("vector_backlog_time"):
        backlog += f", the oldest put {printing.age(stats.vector_backlog_time)}"
    rows = [
        ["memories", str(stats.memory_count)],
        ["of kind", kinds or "-"],
        ["deleted, not purged", str(stats.deleted_count)],
        ["earlier versions", str(stats.version_count)],
        ["blocks", str(stats.block_count)],
        ["grants in force", str(stats.grant_count)],
        ["text", f"{stats.text_bytes:,} bytes"],
        ["vectors", f"{stats.vector_bytes:,} bytes"],
        ["without a vector", backlog],
        ["refused by the embedder", str(stats.vector_failed_count)],
        ["embedder", stats.embedder.fingerprint or "-"],
    ]
    if stats.configured_embedder.fingerprint and stats.configured_embedder.fingerprint != stats.embedder.fingerprint:
        rows.append(["embedder of the settings", f"{stats.configured_embedder.fingerprint} (mobot memory reindex)"])
    if stats.operation:
        rows.append(["at work", stats.operation])
    if stats.bot_count > 1:
        rows.append(["bots", str(stats.bot_count)])
    return rows


def reindex(
    bot: BotArgument,
    embedder: Annotated[str, typer.Option(help="The embedder from now on; default: that of the settings.")] = "",
    shape: Annotated[
        str, typer.Option(help="notes, or dialogue: short turns, each found with the one before it.")
    ] = "",
    text: Annotated[bool, typer.Option(help="The index of words as well.")] = False,
    wait: WaitOption = True,
    as_json: AsJson = False,
) -> None:
    """Make a bot's vectors anew. Search goes on with the old ones until that is done."""
    from chassis.errors import field_invalid
    from mobot.memory.v1 import memory_service_pb2
    from mobot_cli import addresses, services

    async def command(mobot: services.Services) -> None:
        if shape not in ("", "notes", "dialogue"):
            raise field_invalid("--shape", f"{shape!r} is none of notes, dialogue")
        request = memory_service_pb2.ReindexNamespaceRequest(
            name=addresses.bot_name(bot), embedder=embedder, include_text=text
        )
        if shape:
            request.shape = memory_service_pb2.RetrievalShape.Value(f"RETRIEVAL_SHAPE_{shape.upper()}")
        operation = (await mobot.memory.ReindexNamespace(request)).operation
        await _told(mobot, operation, wait=wait, as_json=as_json)

    services.run(command)


def erase(
    bot: BotArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    wait: WaitOption = True,
    as_json: AsJson = False,
) -> None:
    """Erase everything a bot remembers, for good, and certify it."""
    from mobot.memory.v1 import memory_service_pb2
    from mobot_cli import addresses, services

    if not yes and typer.prompt(f"Everything {bot} remembers is lost for good. Type its name to go on") != bot:
        raise typer.Abort

    async def command(mobot: services.Services) -> None:
        name = addresses.bot_name(bot)
        request = memory_service_pb2.EraseNamespaceRequest(name=name, confirm=name)
        operation = (await mobot.memory.EraseNamespace(request)).operation
        await _told(mobot, operation, wait=wait, as_json=as_json)

    services.run(command)


def operations(
    bot: Annotated[str, typer.Argument(help="The bot; all when absent.")] = "",
    cancel: Annotated[str, typer.Option(help="Cancel the operation with this name.")] = "",
    as_json: AsJson = False,
) -> None:
    """The long works on bots' memories, the newest first."""
    from mobot.memory.v1 import memory_service_pb2
    from mobot_cli import addresses, printing, services

    async def command(mobot: services.Services) -> None:
        if cancel:
            answer = await mobot.memory.CancelOperation(memory_service_pb2.CancelOperationRequest(name=cancel))
            found = [answer.operation]
        else:
            parent = addresses.bot_name(bot) if bot else "bots/-"
            page = await mobot.memory.ListOperations(memory_service_pb2.ListOperationsRequest(parent=parent))
            found = list(page.operations)
        if as_json:
            printing.print_json([printing.as_json(operation) for operation in found])
            return
        printing.print_table(
            ["OPERATION", "KIND", "STATE", "DONE", "AGE"],
            [
                [
                    each.name,
                    _kind(each),
                    _state(each),
                    f"{each.done_count}/{each.total_count}",
                    printing.age(each.create_time),
                ]
                for each in found
            ],
            empty="None.",
        )

    services.run(command)


async def _told(mobot: "Services", operation: "operation_pb2.Operation", *, wait: bool, as_json: bool) -> None:
    """Shows an operation, at its end if that is waited for. A failed one is a failed command."""
    from mobot.memory.v1 import operation_pb2
    from mobot_cli import printing, services

    if wait:
        operation = await _ended(mobot, operation)
    if as_json:
        printing.print_json(printing.as_json(operation))
    else:
        printing.print_line(f"{operation.name}: {_outcome(operation)}")
    if operation.state == operation_pb2.OPERATION_STATE_FAILED:
        raise typer.Exit(services.EXIT_FAILED)


async def _ended(mobot: "Services", operation: "operation_pb2.Operation") -> "operation_pb2.Operation":
    """The operation once it has ended; it goes on by itself when mobot restarts, and so does the look at it."""
    import asyncio

    import grpc

    from mobot.memory.v1 import memory_service_pb2, operation_pb2
    from mobot_cli.progress import progress

    name = operation.name
    going_on = (operation_pb2.OPERATION_STATE_PENDING, operation_pb2.OPERATION_STATE_RUNNING)
    with progress(_kind(operation)) as bar:
        while operation.state in going_on:
            bar(operation.done_count, operation.total_count)
            await asyncio.sleep(_POLL_S)
            try:
                request = memory_service_pb2.GetOperationRequest(name=name)
                operation = (await mobot.memory.GetOperation(request)).operation
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
    return operation


def _outcome(operation: "operation_pb2.Operation") -> str:
    result = operation.WhichOneof("result")
    if result == "reindex":
        made = operation.reindex
        return f"{made.embedded_count} embedded with {made.new_embedder.fingerprint}, {made.failed_count} refused"
    if result == "erase_certificate":
        erased = operation.erase_certificate
        return (
            f"erased {erased.memory_count} memories, {erased.version_count} versions, {erased.block_count} blocks, "
            f"{erased.vector_count} vectors; {erased.left_count} left; certificate {erased.digest}"
        )
    if operation.error.message:
        return f"{_state(operation)}: {operation.error.message}"
    return _state(operation)


def _kind(operation: "operation_pb2.Operation") -> str:
    from mobot.memory.v1 import operation_pb2

    return operation_pb2.OperationKind.Name(operation.kind).removeprefix("OPERATION_KIND_").lower()


def _state(operation: "operation_pb2.Operation") -> str:
    from mobot.memory.v1 import operation_pb2

    return operation_pb2.OperationState.Name(operation.state).removeprefix("OPERATION_STATE_").lower()
