"""`mobot mail`: every message and its fate."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mobot.router.v1 import message_pb2

app = typer.Typer(
    add_completion=False,
    help="Messages and their fates: list, show, wait, cancel, decide; dead letters: send again, discard.",
    short_help="Messages and their fates; dead letters; decisions.",
    no_args_is_help=True,
)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RunArgument = Annotated[str, typer.Argument(help="The run, or the message as messages/ID.")]
LimitOption = Annotated[int, typer.Option(help="At most so many.", min=1)]
FilterSession = Annotated[str, typer.Option("--session", help="Only those for this session.")]
FilterBot = Annotated[str, typer.Option("--bot", help="Only those for this bot.")]
DeadLetters = Annotated[list[str] | None, typer.Argument(help="Runs, or messages as messages/ID.")]
AllOfFilter = Annotated[bool, typer.Option("--all", help="All that fit --bot and --session.")]


@app.command("list")
def list_mail(
    bot: FilterBot = "",
    session: FilterSession = "",
    state: Annotated[
        list[str] | None,
        typer.Option(help="queued, leased, running, succeeded, failed, needs-decision …; may be repeated."),
    ] = None,
    source: Annotated[str, typer.Option(help="Only those from this session or principal.")] = "",
    limit: LimitOption = 50,
    as_json: AsJson = False,
) -> None:
    """Messages and where they stand, the newest first."""
    from mobot.router.v1 import message_pb2, router_service_pb2
    from mobot_cli import addresses, services

    async def command(mobot: services.Services) -> None:
        wanted = addresses.message_filter(bot, session)
        wanted.states.extend(state_of(each) for each in state or [])
        wanted.source = addresses.session_name(source) if "/" in source or ":" in source else source
        request = router_service_pb2.ListMessagesRequest(filter=wanted)
        found: list[message_pb2.Message] = []
        while len(found) < limit:
            request.page_size = min(1000, limit - len(found))
            page = await mobot.router.ListMessages(request)
            found.extend(page.messages)
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        _print_messages(found, as_json=as_json, empty="No messages.")

    services.run(command)


@app.command()
def show(run: RunArgument) -> None:
    """Everything about one message, as JSON: its states, attempts, times and last error."""
    from mobot_cli import printing, services

    async def command(mobot: services.Services) -> None:
        printing.print_json(printing.as_json(await _message(mobot, run)))

    services.run(command)


@app.command()
def wait(
    run: RunArgument,
    timeout: Annotated[float, typer.Option(help="Seconds to wait.", min=0.001)] = 300,
    as_json: AsJson = False,
) -> None:
    """Wait until a message's run has ended and print the reply. Exits 1 if it ended badly, 3 if it goes on."""
    import sys

    from chassis.errors import DeadlineExceeded
    from mobot.router.v1 import message_pb2
    from mobot_cli import answers, printing, services

    async def command(mobot: services.Services) -> None:
        name = (await _message(mobot, run)).run if run.startswith("messages/") else run
        try:
            message = await answers.wait(mobot, name, timeout)
        except DeadlineExceeded:
            message = await _message(mobot, run)
            sys.stderr.write(f"mobot: the run goes on: {_state_name(message)}\n")
            raise typer.Exit(3) from None
        if as_json:
            printing.print_json(printing.as_json(message))
        elif message.reply_text:
            printing.print_line(printing.clean_block(message.reply_text))
        if message.state != message_pb2.MESSAGE_STATE_SUCCEEDED:
            why = message.last_error.message or "no reason given"
            sys.stderr.write(f"mobot: the run ended as {_state_name(message)}: {why}\n")
            raise typer.Exit(services.EXIT_FAILED)

    services.run(command)


@app.command()
def cancel(
    run: Annotated[str, typer.Argument(help="The run; with --session everything of that session.")] = "",
    session: Annotated[str, typer.Option(help="Everything that runs and waits for this session.")] = "",
    cascade: Annotated[bool, typer.Option(help="What it spawned, too.")] = False,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    as_json: AsJson = False,
) -> None:
    """Stop a run, or everything of a session."""
    from chassis.errors import field_invalid
    from mobot.router.v1 import router_service_pb2
    from mobot_cli import addresses, printing, services

    async def command(mobot: services.Services) -> None:
        if bool(run) == bool(session):
            raise field_invalid("RUN", "give a run or --session")
        request = router_service_pb2.CancelRunRequest(cascade=cascade, reason=reason, include_queued=bool(session))
        if session:
            request.session = addresses.session_name(session)
        else:
            request.run = run
        answer = await mobot.router.CancelRun(request)
        if as_json:
            printing.print_json(printing.as_json(answer))
            return
        for each in answer.cancelled_runs:
            printing.print_line(f"Cancelled: {each}")
        for each in answer.unstopped_runs:
            printing.print_line(f"Has not stopped yet: {each}")
        if not answer.cancelled_runs:
            printing.print_line("Nothing was running.")

    services.run(command)


@app.command()
def resolve(
    run: Annotated[str, typer.Argument(help="The run that waits for a decision.")],
    answer: Annotated[str, typer.Argument(help="What you decide, such as retry or skip; show prints the choices.")],
    call: Annotated[str, typer.Option(help="The tool call it is about, when there are several.")] = "",
    as_json: AsJson = False,
) -> None:
    """Answer a run that stopped to ask a person."""
    from mobot.router.v1 import message_pb2, router_service_pb2
    from mobot_cli import printing, services

    async def command(mobot: services.Services) -> None:
        decision = message_pb2.Decision(answer=answer, call_id=call)
        response = await mobot.router.ResolveRun(router_service_pb2.ResolveRunRequest(run=run, decision=decision))
        if as_json:
            printing.print_json(printing.as_json(response.message))
        else:
            printing.print_line(f"Decided: {run} is {_state_name(response.message)}")

    services.run(command)


@app.command("dead-letters")
def dead_letters(
    bot: FilterBot = "", session: FilterSession = "", limit: LimitOption = 50, as_json: AsJson = False
) -> None:
    """Messages whose attempts are used up, the newest first."""
    from mobot.router.v1 import router_service_pb2
    from mobot_cli import addresses, services

    async def command(mobot: services.Services) -> None:
        request = router_service_pb2.ListDeadLettersRequest(
            filter=addresses.message_filter(bot, session), page_size=min(limit, 1000)
        )
        page = await mobot.router.ListDeadLetters(request)
        _print_messages(list(page.messages), as_json=as_json, empty="No dead letters.")

    services.run(command)


@app.command()
def redrive(
    messages: DeadLetters = None, bot: FilterBot = "", session: FilterSession = "", every: AllOfFilter = False
) -> None:
    """Send dead letters again, with fresh attempts."""
    from mobot.router.v1 import router_service_pb2
    from mobot_cli import addresses, printing, services

    async def command(mobot: services.Services) -> None:
        names = await _names(mobot, messages, bot, session, every=every)
        request = router_service_pb2.RedriveDeadLettersRequest(messages=names)
        if not names:
            request.filter.CopyFrom(addresses.message_filter(bot, session))
        answer = await mobot.router.RedriveDeadLetters(request)
        printing.print_line(f"Sent again: {answer.redriven_count}")

    services.run(command)


@app.command()
def discard(
    messages: DeadLetters = None,
    bot: FilterBot = "",
    session: FilterSession = "",
    every: AllOfFilter = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Give dead letters up for good."""
    from mobot.router.v1 import router_service_pb2
    from mobot_cli import addresses, printing, services

    if not yes:
        typer.confirm("Give these dead letters up for good?", abort=True)

    async def command(mobot: services.Services) -> None:
        names = await _names(mobot, messages, bot, session, every=every)
        request = router_service_pb2.DiscardDeadLettersRequest(messages=names)
        if not names:
            request.filter.CopyFrom(addresses.message_filter(bot, session))
        answer = await mobot.router.DiscardDeadLetters(request)
        printing.print_line(f"Discarded: {answer.discarded_count}")

    services.run(command)


@app.command()
def stats(
    bot: FilterBot = "",
    session: FilterSession = "",
    as_json: AsJson = False,
) -> None:
    """How much waits, is worked on and was given up, by bot or for one session."""
    from mobot.router.v1 import router_service_pb2
    from mobot_cli import addresses, printing, services

    async def command(mobot: services.Services) -> None:
        request = router_service_pb2.GetMailboxStatsRequest(
            session=addresses.session_name(session) if session else "", bot=addresses.bot_name(bot) if bot else ""
        )
        mailboxes = (await mobot.router.GetMailboxStats(request)).mailboxes
        if as_json:
            printing.print_json([printing.as_json(each) for each in mailboxes])
            return
        printing.print_table(
            ["MAILBOX", "WAITING", "OLDEST", "IN FLIGHT", "DEAD LETTERS", "WORKERS"],
            [
                [
                    addresses.short_name(each.session or each.bot),
                    str(each.queued_count),
                    printing.age(each.oldest_time),
                    str(each.in_flight_count),
                    str(each.dead_letter_count),
                    str(each.worker_count),
                ]
                for each in mailboxes
            ],
            empty="No mail.",
        )

    services.run(command)


def state_of(state: str) -> "message_pb2.MessageState.ValueType":
    """ "needs-decision" -> MESSAGE_STATE_NEEDS_DECISION.

    Raises:
        InvalidArgument: there is no such state.
    """
    from chassis.errors import field_invalid
    from mobot.router.v1 import message_pb2

    states = {
        name.removeprefix("MESSAGE_STATE_").lower().replace("_", "-"): number
        for name, number in message_pb2.MessageState.items()
        if number
    }
    wanted = state.lower().replace("_", "-")
    if wanted not in states:
        raise field_invalid("--state", f"{state!r} is none of {', '.join(states)}")
    return states[wanted]


def _state_name(message: "message_pb2.Message") -> str:
    from mobot.router.v1 import message_pb2

    return message_pb2.MessageState.Name(message.state).removeprefix("MESSAGE_STATE_").lower().replace("_", "-")


def _print_messages(found: "list[message_pb2.Message]", *, as_json: bool, empty: str) -> None:
    from mobot_cli import addresses, printing, transcript

    if as_json:
        printing.print_json([printing.as_json(message) for message in found])
        return
    printing.print_table(
        ["RUN", "STATE", "AGE", "TRY", "FROM", "TO", "TEXT", "WHY"],
        [
            [
                message.run,
                _state_name(message),
                printing.age(message.create_time),
                str(message.attempts),
                addresses.short_name(message.draft.source or message.sender),
                addresses.short_name(message.session),
                printing.clean(transcript.text_of(list(message.draft.parts)), limit=40),
                printing.clean(
                    message.decision_request.question or message.last_error.reason or message.last_error.message,
                    limit=60,
                ),
            ]
            for message in found
        ],
        empty=empty,
    )


async def _message(mobot: object, run: str) -> "message_pb2.Message":
    from mobot.router.v1 import router_service_pb2
    from mobot_cli import services

    assert isinstance(mobot, services.Services)
    request = router_service_pb2.GetMessageRequest()
    if run.startswith("messages/"):
        request.name = run
    else:
        request.run = run
    return (await mobot.router.GetMessage(request)).message


async def _names(mobot: object, messages: list[str] | None, bot: str, session: str, *, every: bool) -> list[str]:
    """The resource names of dead letters; none when the filter is meant."""
    from chassis.errors import field_invalid

    if bool(messages) == every:
        raise field_invalid("MESSAGES", "name dead letters, or say --all with --bot or --session")
    if every and not (bot or session):
        raise field_invalid("--all", "say which with --bot or --session")
    return [each if each.startswith("messages/") else (await _message(mobot, each)).name for each in messages or []]
