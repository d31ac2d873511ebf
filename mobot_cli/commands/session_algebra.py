"""`mobot sessions` fork, merge, search, share and usage."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from google.protobuf import timestamp_pb2

    from mobot.session.v1 import session_service_pb2

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
SessionArgument = Annotated[str, typer.Argument(help="BOT, BOT/SESSION or agent:BOT:SESSION.")]

share_app = typer.Typer(add_completion=False, no_args_is_help=True, help="Links through which a session can be read.")


def fork(
    source: SessionArgument,
    target: Annotated[str, typer.Argument(help="The new session: BOT/SESSION or agent:BOT:SESSION.")],
    at: Annotated[
        int, typer.Option(help="Last event to copy, by its number in the history; 0 for the end.", min=0)
    ] = 0,
    label: Annotated[str, typer.Option(help="Short name of the new session.")] = "",
    as_json: AsJson = False,
) -> None:
    """Begin a new session with what was said in another one, up to an event. The other one stays as it is."""
    from chassis import resource_names
    from mobot.session.v1 import session_pb2, session_service_pb2
    from mobot_cli import addresses, printing, services

    async def command(mobot: services.Services) -> None:
        name = resource_names.parse_session(addresses.session_name(target))
        create = session_service_pb2.CreateSessionRequest(
            parent=resource_names.bot_name(name.bot),
            session_id=name.session,
            session=session_pb2.Session(label=label, user_created=True),
        )
        answer = await mobot.session.ForkSession(
            session_service_pb2.ForkSessionRequest(source=addresses.session_name(source), sequence=at, target=create)
        )
        if as_json:
            printing.print_json(printing.as_json(answer.session))
        else:
            copied = answer.session.fork_origin.sequence
            printing.print_line(f"{answer.session.key} begins with {source} up to event {copied}.")

    services.run(command)


def merge(
    target: Annotated[str, typer.Argument(help="Session that gets the turns; created when missing.")],
    sources: Annotated[list[str], typer.Argument(help="Two sessions or more whose turns are merged.")],
    as_json: AsJson = False,
) -> None:
    """Copy the turns of several sessions into one, in order of time. Merging again adds only what is new."""
    from mobot.session.v1 import session_service_pb2
    from mobot_cli import addresses, printing, services

    async def command(mobot: services.Services) -> None:
        answer = await mobot.session.MergeSessions(
            session_service_pb2.MergeSessionsRequest(
                sources=[addresses.session_name(source) for source in sources], target=addresses.session_name(target)
            )
        )
        if as_json:
            printing.print_json(printing.as_json(answer))
        else:
            printing.print_line(f"{answer.session.key}: {answer.event_count} events added.")

    services.run(command)


def search(
    words: Annotated[list[str], typer.Argument(help="Words that a message must have, all of them.")],
    bot: Annotated[str, typer.Option(help="Only this bot's sessions.")] = "",
    session: Annotated[str, typer.Option(help="Only this session.")] = "",
    archived: Annotated[bool, typer.Option(help="Archived sessions too.")] = False,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=100)] = 20,
    as_json: AsJson = False,
) -> None:
    """Find messages by their words in all sessions, best first."""
    from mobot.session.v1 import session_pb2, session_service_pb2
    from mobot_cli import addresses, printing, services

    states = [session_pb2.SESSION_STATE_ACTIVE, session_pb2.SESSION_STATE_ARCHIVED] if archived else []

    async def command(mobot: services.Services) -> None:
        found = await mobot.session.SearchEvents(
            session_service_pb2.SearchEventsRequest(
                query=" ".join(words),
                filter=session_service_pb2.SessionFilter(bots=[addresses.bot_name(bot)] if bot else [], states=states),
                sessions=[addresses.session_name(session)] if session else [],
                page_size=limit,
            )
        )
        if as_json:
            printing.print_json(printing.as_json(found))
            return
        printing.print_table(
            ["SESSION", "EVENT", "WHEN", "TEXT"],
            [
                [
                    addresses.short_name(hit.event.session),
                    str(hit.event.sequence),
                    printing.clock_time(hit.event.create_time),
                    printing.clean(hit.excerpt.replace("\x02", "[").replace("\x03", "]"), limit=160),
                ]
                for hit in found.hits
            ],
            empty="Nothing found.",
        )
        if found.backlog_count:
            printing.print_line(f"{found.backlog_count} new events are not indexed yet; search again in a moment.")

    services.run(command)


def usage(
    session: Annotated[str | None, typer.Argument(help="BOT/SESSION or agent:BOT:SESSION; none for all.")] = None,
    bot: Annotated[str, typer.Option(help="All sessions of this bot.")] = "",
    days: Annotated[int, typer.Option(help="Only the last so many days; 0 for all.", min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """What sessions consumed, day by day: messages, runs, tokens, tool calls, time, money."""
    from google.protobuf import timestamp_pb2

    from mobot.session.v1 import session_service_pb2
    from mobot_cli import addresses, printing, services

    start: timestamp_pb2.Timestamp | None = None
    if days:
        start = timestamp_pb2.Timestamp()
        start.FromDatetime(datetime.now(UTC) - timedelta(days=days - 1))

    async def command(mobot: services.Services) -> None:
        report: session_service_pb2.GetSessionUsageResponse | session_service_pb2.GetUsageSummaryResponse
        if session is not None:
            report = await mobot.session.GetSessionUsage(
                session_service_pb2.GetSessionUsageRequest(name=addresses.session_name(session), start_time=start)
            )
        else:
            report = await mobot.session.GetUsageSummary(
                session_service_pb2.GetUsageSummaryRequest(bot=addresses.bot_name(bot) if bot else "", start_time=start)
            )
        if as_json:
            printing.print_json(printing.as_json(report))
            return
        rows = [_usage_row(day.day, day) for day in report.days]
        if len(rows) > 1:
            rows.append(_usage_row("all", report.sum))
        heads = ["DAY", "MESSAGES", "RUNS", "TIME", "TOKENS IN", "TOKENS OUT", "CACHED", "TOOL CALLS", "COST $"]
        printing.print_table(heads, rows, empty="Nothing was consumed.")

    services.run(command)


def _usage_row(day: str, bucket: "session_service_pb2.UsageBucket") -> list[str]:
    used = bucket.usage
    return [
        day,
        str(bucket.message_count),
        str(bucket.run_count),
        f"{bucket.run_time.seconds + bucket.run_time.nanos / 1e9:.1f} s",
        str(used.input_tokens),
        str(used.output_tokens),
        str(used.cache_read_tokens),
        str(used.tool_call_count),
        f"{used.cost_micros / 1_000_000:.4f}" if used.cost_micros else "-",
    ]


@share_app.command("create")
def share_create(
    session: SessionArgument,
    through: Annotated[int, typer.Option(help="Last event to show; 0 for all, later ones too.", min=0)] = 0,
    days: Annotated[int, typer.Option(help="Days until the link ends; 0 for never.", min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """Make a link. Whoever has it can read the session, and nothing else. It is shown this once."""
    from mobot.session.v1 import session_pb2, session_service_pb2
    from mobot_cli import addresses, printing, services

    async def command(mobot: services.Services) -> None:
        link = session_pb2.ShareLink(through_sequence=through)
        if days:
            link.expire_time.FromDatetime(datetime.now(UTC) + timedelta(days=days))
        request = session_service_pb2.CreateShareLinkRequest(parent=addresses.session_name(session), share_link=link)
        made = (await mobot.session.CreateShareLink(request)).share_link
        if as_json:
            printing.print_json({**printing.as_json(made), "path": f"/share/{made.token}"})
        else:
            printing.print_line(f"{made.name}\nOn the gateway: /share/{made.token}")

    services.run(command)


@share_app.command("list")
def share_list(session: SessionArgument, as_json: AsJson = False) -> None:
    """A session's links, without their secrets."""
    from mobot.session.v1 import session_pb2, session_service_pb2
    from mobot_cli import addresses, printing, services

    async def command(mobot: services.Services) -> None:
        request = session_service_pb2.ListShareLinksRequest(parent=addresses.session_name(session), page_size=1_000)
        links: list[session_pb2.ShareLink] = []
        while True:
            page = await mobot.session.ListShareLinks(request)
            links.extend(page.share_links)
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        if as_json:
            printing.print_json([printing.as_json(link) for link in links])
            return
        printing.print_table(
            ["LINK", "MADE", "BY", "SHOWS", "STATE"],
            [
                [
                    link.name,
                    printing.age(link.create_time),
                    link.created_by,
                    f"up to event {link.through_sequence}" if link.through_sequence else "all",
                    _state(link.revoke_time, link.expire_time),
                ]
                for link in links
            ],
            empty="No links.",
        )

    services.run(command)


@share_app.command("revoke")
def share_revoke(name: Annotated[str, typer.Argument(help="The link's name, as `list` prints it.")]) -> None:
    """Make a link useless."""
    from mobot.session.v1 import session_service_pb2
    from mobot_cli import printing, services

    async def command(mobot: services.Services) -> None:
        await mobot.session.RevokeShareLink(session_service_pb2.RevokeShareLinkRequest(name=name))
        printing.print_line(f"{name} works no more.")

    services.run(command)


def _state(revoked: "timestamp_pb2.Timestamp", expires: "timestamp_pb2.Timestamp") -> str:
    from mobot_cli import printing

    if revoked.seconds:
        return "revoked"
    if not expires.seconds:
        return "works"
    expired = expires.ToDatetime(UTC) <= datetime.now(UTC)
    return "expired" if expired else f"works until {printing.clock_time(expires)}"
