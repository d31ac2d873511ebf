"""`mobot memory export` and `import`: a bot's memory as a file of lines of JSON, without loss."""

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mobot_cli.commands.memory_arguments import AsJson, BotArgument

if TYPE_CHECKING:
    from mobot.memory.v1 import memory_service_pb2
    from mobot_cli.progress import At
    from mobot_cli.services import Services

_FRAME_LINES = 500
_FRAME_BYTES = 4 * 1024 * 1024
_STDIO = "-"


def add_to(app: typer.Typer) -> None:
    app.command("export")(export_memories)
    app.command("import")(import_memories)


def export_memories(
    bot: BotArgument,
    file: Annotated[str, typer.Argument(help="Where to write it; - is standard output.")] = _STDIO,
    versions: Annotated[bool, typer.Option(help="With the history of each memory and block.")] = False,
    deleted: Annotated[bool, typer.Option(help="With what was forgotten and is not purged yet.")] = False,
    blocks: Annotated[bool, typer.Option("--blocks/--no-blocks", help="With the bot's blocks.")] = True,
    grants: Annotated[bool, typer.Option(help="With the grants the bot has given.")] = False,
    vectors: Annotated[bool, typer.Option(help="With vectors; they can be made anew from the texts.")] = False,
) -> None:
    """Write a bot's memory as lines of JSON. A restart of mobot in the middle does no harm."""
    from mobot.memory.v1 import memory_service_pb2
    from mobot_cli import addresses, printing, services
    from mobot_cli.progress import progress

    async def command(mobot: services.Services) -> None:
        request = memory_service_pb2.ExportMemoriesRequest(
            parent=addresses.bot_name(bot),
            format=memory_service_pb2.EXPORT_FORMAT_JSONL,
            include_versions=versions,
            include_deleted=deleted,
            include_blocks=blocks,
            include_grants=grants,
            include_vectors=vectors,
        )
        with progress(f"Exporting {bot}") as bar, _written(file) as write:
            count = 0
            async for line in _exported(mobot, request, bar):
                write(f"{line}\n")
                count += 1
        if file != _STDIO:
            printing.print_line(f"Exported {count} records of {bot} to {file}")

    services.run(command)


@contextmanager
def _written(file: str) -> Iterator[Callable[[str], object]]:
    """Writes to the file, which appears only when it is whole: half an export must not look like one.

    Raises:
        InvalidArgument: it cannot be written.
    """
    from chassis.errors import field_invalid

    if file == _STDIO:
        yield sys.stdout.write
        return
    partial = Path(f"{file}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as out:
            yield out.write
        partial.replace(file)
    except OSError as error:
        raise field_invalid("FILE", f"cannot write {file}: {error.strerror}") from None


async def _exported(
    mobot: "Services", request: "memory_service_pb2.ExportMemoriesRequest", bar: "At"
) -> AsyncIterator[str]:
    """The lines; a stream that breaks is taken up where it broke."""
    import asyncio

    import grpc

    resumed = 0
    while True:
        try:
            async for frame in mobot.memory.ExportMemories(request):
                for line in frame.lines:
                    yield line
                resumed = 0
                bar(frame.done_count, frame.total_count)
                request.resume_token = frame.resume_token
        except grpc.aio.AioRpcError as error:
            may_resume = error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
            if not may_resume or not request.resume_token or resumed >= 10:
                raise
            resumed += 1
            await asyncio.sleep(0.5)
            continue
        return


def import_memories(
    bot: BotArgument,
    file: Annotated[str, typer.Argument(help="Lines of JSON as `export` writes them; - is standard input.")],
    dry_run: Annotated[bool, typer.Option(help="Only say what would be done.")] = False,
    conflict: Annotated[
        str, typer.Option(help="What to do with a name that is taken: skip, replace or rename.")
    ] = "skip",
    stop: Annotated[bool, typer.Option(help="End at the first bad record; what came before stays.")] = False,
    as_json: AsJson = False,
) -> None:
    """Read memories from a file. Importing the same file again changes nothing."""
    from chassis.errors import AppError, field_invalid
    from mobot.memory.v1 import memory_service_pb2
    from mobot_cli import addresses, printing, services
    from mobot_cli.progress import progress

    async def command(mobot: services.Services) -> None:
        if conflict not in ("skip", "replace", "rename"):
            raise field_invalid("--conflict", f"{conflict!r} is none of skip, replace, rename")
        options = memory_service_pb2.ImportOptions(
            parent=addresses.bot_name(bot),
            dry_run=dry_run,
            conflict=memory_service_pb2.ImportConflict.Value(f"IMPORT_CONFLICT_{conflict.upper()}"),
            fail_on_error=stop,
        )
        # A file is looked through first: once the stream is open, what is wrong with a line is found too late.
        total = 0 if file == _STDIO else sum(1 for _ in _lines(file))
        broken: list[AppError] = []
        with progress(f"Importing into {bot}") as bar:

            async def frames() -> AsyncIterator[memory_service_pb2.ImportMemoriesRequest]:
                yield memory_service_pb2.ImportMemoriesRequest(options=options)
                done = 0
                try:
                    for batch in _batches(_lines(file)):
                        yield memory_service_pb2.ImportMemoriesRequest(lines=batch)
                        done += len(batch)
                        bar(done, total)
                except AppError as error:
                    broken.append(error)

            report = await mobot.memory.ImportMemories(frames())
        if as_json:
            printing.print_json(printing.as_json(report))
        else:
            _print_report(report)
        if broken:
            raise broken[0]
        if report.failed_count:
            raise typer.Exit(services.EXIT_FAILED)

    services.run(command)


def _print_report(report: "memory_service_pb2.ImportMemoriesResponse") -> None:
    from mobot_cli import printing

    printing.print_line(
        f"{'Read' if report.applied else 'Would read'} {report.read_count}: {report.created_count} new, "
        f"{report.updated_count} replaced, {report.unchanged_count} known, {report.skipped_count} skipped, "
        f"{report.failed_count} refused"
    )
    for failure in report.failures:
        printing.print_line(f"  record {failure.record_number}: {printing.clean(failure.refusal.message, limit=300)}")


def _lines(file: str) -> Iterator[str]:
    """The lines of the file.

    Raises:
        InvalidArgument: it cannot be read, or a line is not UTF-8.
    """
    from chassis.errors import field_invalid

    if file == _STDIO:
        yield from _decoded(iter(sys.stdin.buffer))
        return
    try:
        with Path(file).open("rb") as read:
            yield from _decoded(iter(read))
    except OSError as error:
        raise field_invalid("FILE", f"cannot read {file}: {error.strerror}") from None


def _decoded(raw: Iterator[bytes]) -> Iterator[str]:
    from chassis.errors import field_invalid

    for number, line in enumerate(raw, 1):
        try:
            yield line.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise field_invalid("FILE", f"line {number} is not UTF-8") from None


def _batches(lines: Iterator[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for line in lines:
        if batch and (len(batch) >= _FRAME_LINES or size + len(line) > _FRAME_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(line)
        size += len(line)
    if batch:
        yield batch
