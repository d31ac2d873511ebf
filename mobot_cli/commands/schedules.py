"""`mobot schedules`: messages that are sent again and again."""

from typing import Annotated

import typer

app = typer.Typer(add_completion=False, help="Messages that are sent again and again.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ScheduleArgument = Annotated[str, typer.Argument(help="The schedule, e.g. morning.")]
_MISSED = "skip (leave them out), once (send once for all), or all"


@app.command("list")
def list_schedules(as_json: AsJson = False) -> None:
    """All schedules, with when they send next."""
    from mobot.router.v1 import message_pb2, router_service_pb2
    from mobot_cli import addresses, printing, services, transcript

    async def command(mobot: services.Services) -> None:
        request = router_service_pb2.ListSchedulesRequest(page_size=1000)
        found: list[message_pb2.Schedule] = []
        while True:
            page = await mobot.router.ListSchedules(request)
            found.extend(page.schedules)
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        if as_json:
            printing.print_json([printing.as_json(schedule) for schedule in found])
            return
        printing.print_table(
            ["SCHEDULE", "WHEN", "NEXT", "TO", "TEXT"],
            [
                [
                    schedule.name.removeprefix("schedules/"),
                    _when(schedule),
                    "paused" if schedule.paused else printing.clock_time(schedule.next_time),
                    addresses.short_name(
                        schedule.draft.session
                        or schedule.draft.bot
                        or schedule.draft.topic
                        or schedule.spawn.bot
                        or schedule.spawn.parent
                    ),
                    printing.clean(transcript.text_of(list(schedule.draft.parts or schedule.spawn.task)), limit=60),
                ]
                for schedule in found
            ],
            empty='No schedules yet: mobot schedules create morning main "good morning" --cron "0 8 * * *"',
        )

    services.run(command)


@app.command()
def create(
    schedule: ScheduleArgument,
    to: Annotated[str, typer.Argument(help="BOT, BOT/SESSION, agent:BOT:SESSION or topics/TOPIC.")],
    message: Annotated[str, typer.Argument(help="The text.")],
    cron: Annotated[str, typer.Option(help="When: a cron expression of five fields.")] = "",
    every: Annotated[float, typer.Option(help="When: every so many seconds.", min=0)] = 0,
    time_zone: Annotated[str, typer.Option(help="Time zone of the cron expression, e.g. Europe/Rome.")] = "UTC",
    missed: Annotated[str, typer.Option(help=f"What to do about times that passed while nothing ran: {_MISSED}.")] = (
        "once"
    ),
    paused: Annotated[bool, typer.Option(help="Do not send yet.")] = False,
    as_json: AsJson = False,
) -> None:
    """Create a schedule that sends a message to a session, bot or topic."""
    from datetime import timedelta

    from chassis.errors import field_invalid
    from mobot.router.v1 import message_pb2, router_service_pb2
    from mobot.session.v1 import part_pb2
    from mobot_cli import addresses, printing, services

    async def command(mobot: services.Services) -> None:
        if bool(cron) == bool(every):
            raise field_invalid("--cron", "give --cron or --every")
        policies = {
            "skip": message_pb2.MISSED_RUN_POLICY_SKIP,
            "once": message_pb2.MISSED_RUN_POLICY_RUN_ONCE,
            "all": message_pb2.MISSED_RUN_POLICY_RUN_ALL,
        }
        if missed not in policies:
            raise field_invalid("--missed", f"{missed!r} is none of {', '.join(policies)}")
        draft = message_pb2.MessageDraft(parts=[part_pb2.Part(text=message)])
        addresses.set_destination(draft, to)
        wanted = message_pb2.Schedule(
            draft=draft, time_zone=time_zone, missed_run_policy=policies[missed], paused=paused
        )
        if cron:
            wanted.cron = cron
        else:
            wanted.interval.FromTimedelta(timedelta(seconds=every))
        request = router_service_pb2.CreateScheduleRequest(schedule_id=schedule, schedule=wanted)
        made = (await mobot.router.CreateSchedule(request)).schedule
        if as_json:
            printing.print_json(printing.as_json(made))
        else:
            printing.print_line(f"Created {made.name}; it sends next at {printing.clock_time(made.next_time)}")

    services.run(command)


@app.command()
def pause(schedule: ScheduleArgument) -> None:
    """Stop sending, and keep the schedule."""
    _set_paused(schedule, paused=True)


@app.command()
def resume(schedule: ScheduleArgument) -> None:
    """Send again."""
    _set_paused(schedule, paused=False)


def _set_paused(schedule: str, *, paused: bool) -> None:
    from google.protobuf import field_mask_pb2

    from mobot.router.v1 import message_pb2, router_service_pb2
    from mobot_cli import printing, services

    async def command(mobot: services.Services) -> None:
        request = router_service_pb2.UpdateScheduleRequest(
            schedule=message_pb2.Schedule(name=f"schedules/{schedule}", paused=paused),
            update_mask=field_mask_pb2.FieldMask(paths=["paused"]),
        )
        made = (await mobot.router.UpdateSchedule(request)).schedule
        printing.print_line(f"{made.name} {'is paused' if made.paused else 'sends again'}")

    services.run(command)


@app.command()
def delete(schedule: ScheduleArgument) -> None:
    """Remove a schedule."""
    from mobot.router.v1 import router_service_pb2
    from mobot_cli import printing, services

    async def command(mobot: services.Services) -> None:
        await mobot.router.DeleteSchedule(router_service_pb2.DeleteScheduleRequest(name=f"schedules/{schedule}"))
        printing.print_line(f"Removed schedules/{schedule}")

    services.run(command)


@app.command()
def run(schedule: ScheduleArgument, as_json: AsJson = False) -> None:
    """Send it now, besides its times."""
    from mobot.router.v1 import router_service_pb2
    from mobot_cli import printing, services

    async def command(mobot: services.Services) -> None:
        request = router_service_pb2.RunScheduleRequest(name=f"schedules/{schedule}")
        receipt = (await mobot.router.RunSchedule(request)).receipt
        if as_json:
            printing.print_json(printing.as_json(receipt))
        else:
            printing.print_line(f"Sent: run {receipt.run}")

    services.run(command)


def _when(schedule: object) -> str:
    from mobot.router.v1 import message_pb2

    assert isinstance(schedule, message_pb2.Schedule)
    if schedule.WhichOneof("timing") == "interval":
        return f"every {schedule.interval.ToNanoseconds() / 1e9:g} s"
    return f"{schedule.cron} {schedule.time_zone}"
