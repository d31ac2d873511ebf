"""`mobot sessions export` and `import`: sessions as files."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mobot.session.v1 import session_service_pb2
    from mobot_cli.foreign_store import Source

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
SessionArgument = Annotated[str, typer.Argument(help="BOT, BOT/SESSION or agent:BOT:SESSION.")]

_PIECE = 512 * 1024


def export_session(
    session: SessionArgument,
    to: Annotated[str, typer.Option("--to", "-o", help="File or directory to write; - for standard output.")] = ".",
    kind: Annotated[
        str, typer.Option("--format", "-f", help="archive (lossless), markdown, or jsonl (OpenClaw's transcripts).")
    ] = "archive",
    uid: Annotated[
        str, typer.Option(help="Which transcript, for markdown and jsonl: a uid, or * for all. Default: the present.")
    ] = "",
) -> None:
    """Write a session to a file: whole and lossless, as Markdown for people, or as lines that OpenClaw reads."""
    from chassis.errors import FailedPrecondition
    from mobot.session.v1 import session_service_pb2
    from mobot_cli import addresses, printing, services

    formats = {
        "archive": session_service_pb2.EXPORT_FORMAT_ARCHIVE,
        "markdown": session_service_pb2.EXPORT_FORMAT_MARKDOWN,
        "jsonl": session_service_pb2.EXPORT_FORMAT_OPENCLAW_JSONL,
    }
    if kind not in formats:
        raise typer.BadParameter(f"{kind!r} is none of {', '.join(formats)}", param_hint="--format")
    into_directory = Path(to).is_dir()

    async def command(mobot: services.Services) -> None:
        call = mobot.session.ExportSession(
            session_service_pb2.ExportSessionRequest(
                name=addresses.session_name(session), format=formats[kind], session_uid=uid
            )
        )
        path: Path | None = None
        size = 0
        part: Path | None = None
        try:
            async for response in call:
                if to == "-":
                    sys.stdout.buffer.write(response.chunk)
                    continue
                if path is None:
                    path = Path(to) / Path(response.file_name).name if into_directory else Path(to)
                    part = path.with_name(path.name + ".part")
                    part.write_bytes(b"")
                if part is not None:
                    with part.open("ab") as file:
                        file.write(response.chunk)
                size += len(response.chunk)
                _tell(f"{size // 1024:,} KiB")
            if part is not None and path is not None:
                part.replace(path)  # never half a file under the name that was asked for
        except BrokenPipeError:
            raise
        except OSError as error:
            raise FailedPrecondition(f"{path or to} cannot be written: {error.strerror}") from None
        finally:
            if part is not None:
                part.unlink(missing_ok=True)
        _tell("")
        if path is not None:
            printing.print_line(f"Wrote {path} ({size:,} bytes)")

    services.run(command)


def import_sessions(
    source: Annotated[
        Path,
        typer.Argument(
            help="An archive of `mobot sessions export`; or of OpenClaw: its directory, an agent's directory, "
            "openclaw-agent.sqlite, sessions.json, sessions-store.json or a transcript.",
            exists=True,
            readable=True,
        ),
    ],
    bot: Annotated[str, typer.Option(help="The bot that gets the sessions. Default: the one each session names.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Report what would be done, and write nothing.")] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave alone sessions that exist and are others, and go on.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Take sessions in. The source is only read; importing it again adds only the sessions that are missing.

    Before a large import make a copy of session.sqlite3 (docs/portability.md); the report says the way back.
    """
    from mobot.session.v1 import session_service_pb2
    from mobot_cli import addresses, foreign_store, printing, services

    policy = (
        session_service_pb2.CONFLICT_POLICY_USE_EXISTING if skip_existing else session_service_pb2.CONFLICT_POLICY_FAIL
    )
    target = addresses.bot_name(bot) if bot else ""

    async def command(mobot: services.Services) -> None:
        reports = []
        with foreign_store.sources(source) as found:
            if not found:
                printing.print_line(f"{source} holds no sessions that are known here.")
                raise typer.Exit(1)
            for each in found:
                first = session_service_pb2.ImportSessionsRequest(
                    bot=target or (addresses.bot_name(each.bot) if each.bot else ""),
                    dry_run=dry_run,
                    conflict_policy=policy,
                )
                report = await mobot.session.ImportSessions(_pieces(each, first))
                _tell("")
                reports.append((each, report))
                if not as_json:
                    _print_report(each, report)
        if as_json:
            printing.print_json([{"source": each.title, **printing.as_json(report)} for each, report in reports])
        elif not dry_run and any(report.created_count for _, report in reports):
            printing.print_line(reports[0][1].way_back)
        if all(report.created_count + report.unchanged_count == 0 < report.skipped_count for _, report in reports):
            raise typer.Exit(1)  # nothing of it could be taken

    services.run(command)


async def _pieces(
    source: "Source", first: "session_service_pb2.ImportSessionsRequest"
) -> AsyncIterator["session_service_pb2.ImportSessionsRequest"]:
    from mobot.session.v1 import session_service_pb2

    yield first
    sent = 0
    with source.path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield session_service_pb2.ImportSessionsRequest(chunk=piece)
            sent += len(piece)
            _tell(f"{source.title}: sent {sent // 1024:,} KiB")
    _tell(f"{source.title}: being read")


def _print_report(source: "Source", report: "session_service_pb2.ImportSessionsResponse") -> None:
    from mobot_cli import printing

    verb = "would be imported" if report.dry_run else "imported"
    printing.print_line(
        f"{source.title}: {_counted(report.created_count, 'session')} {verb} "
        f"({_counted(report.event_count, 'event')}), "
        f"{report.unchanged_count} here already, {report.skipped_count} skipped."
    )
    if report.problems:
        printing.print_table(
            ["WHERE", "WHAT"],
            [[printing.clean(each.location, limit=80), printing.clean(each.message)] for each in report.problems],
            empty="",
        )


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _tell(text: str) -> None:
    """Progress on one line of a terminal; nothing in a pipe."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()
