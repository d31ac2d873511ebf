"""`mobot send`: say something to a bot and read its answer as it is written."""

import sys
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


class Mode(StrEnum):
    """What a message does to a session that works on another one."""

    ENQUEUE = "enqueue"
    STEER = "steer"
    INTERRUPT = "interrupt"
    REJECT = "reject"
    COLLECT = "collect"


@app.command()
def send(
    to: Annotated[str, typer.Argument(help="BOT, BOT/SESSION or agent:BOT:SESSION.")],
    message: Annotated[str, typer.Argument(help="The text; - reads it from standard input.")],
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the answer and print it.")] = True,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the answer.", min=0.1)] = 300,
    key: Annotated[str, typer.Option(help="Idempotency key: the same key never sends twice.")] = "",
    mode: Annotated[
        Mode, typer.Option(help="What a busy session does with it; steer hands it to the running turn.")
    ] = Mode.ENQUEUE,
    priority: Annotated[int, typer.Option(help="Within the session, higher first.", min=0, max=9)] = 0,
    after: Annotated[float, typer.Option(help="Deliver it not before so many seconds.", min=0)] = 0,
    expire: Annotated[
        float | None, typer.Option(help="Give it up when it is not done within so many seconds.", min=0.1)
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the receipt, or the finished message, as JSON.")
    ] = False,
) -> None:
    """Send a message. It is durable when the command says so; the answer streams."""
    import uuid

    from mobot.router.v1 import message_pb2, router_service_pb2
    from mobot.session.v1 import part_pb2
    from mobot_cli import addresses, answers, printing, services, texts

    text = texts.text_of(message, "message")

    async def command(mobot: services.Services) -> None:
        session = addresses.session_name(to)
        run = key or str(uuid.uuid4())
        draft = message_pb2.MessageDraft(
            session=session,
            parts=[part_pb2.Part(text=text)],
            idempotency_key=run,
            user_input=True,
            mode=message_pb2.BusyMode.Value(f"BUSY_MODE_{mode.name}"),
            priority=priority,
        )
        now = datetime.now(UTC)
        if after:
            draft.not_before_time.FromDatetime(now + timedelta(seconds=after))
        if expire is not None:
            draft.expire_time.FromDatetime(now + timedelta(seconds=expire))
        request = router_service_pb2.SendMessageRequest(message=draft)
        if not wait:
            receipt = (await mobot.router.SendMessage(request)).receipt
            if as_json:
                printing.print_json(printing.as_json(receipt))
            else:
                again = " (sent before)" if receipt.duplicate else ""
                printing.print_line(f"Accepted{again}: run {receipt.run}, {receipt.queue_position} before it.")
            return
        finished = await answers.ask(mobot, request, timeout_s=timeout, show=None if as_json else sys.stdout)
        if as_json:
            printing.print_json(printing.as_json(finished))
        elif finished.joined_run and finished.reply_text:
            sys.stdout.write(printing.clean_block(finished.reply_text) + "\n")  # said by the turn that took it in
        if finished.state != message_pb2.MESSAGE_STATE_SUCCEEDED:
            state = message_pb2.MessageState.Name(finished.state).removeprefix("MESSAGE_STATE_")
            ended = state.lower().replace("_", "-")
            sys.stderr.write(f"mobot: the run ended as {ended}: {finished.last_error.message or 'no reason given'}\n")
            raise typer.Exit(services.EXIT_FAILED)

    services.run(command)
