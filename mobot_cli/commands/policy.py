"""`mobot policy` and `mobot audit`: who may do what to whom, and what was decided."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mobot.router.v1 import message_pb2
    from mobot_cli.services import Services

app = typer.Typer(
    add_completion=False,
    help="Which bot may message, spawn or read which. The first rule that fits decides.",
    no_args_is_help=True,
)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ActorArgument = Annotated[str, typer.Argument(help="Who: BOT, * for all, or label:KEY=VALUE.")]
TargetArgument = Annotated[str, typer.Argument(help="To whom, in the same forms.")]
ActionOption = Annotated[list[str] | None, typer.Option(help="send, spawn or read; may be repeated; all when absent.")]
_ACTIONS = ("send", "spawn", "read")


@app.command()
def show(as_json: AsJson = False) -> None:
    """The rules in their order."""
    from mobot.router.v1 import router_service_pb2
    from mobot_cli import printing, services

    async def command(mobot: services.Services) -> None:
        policy = (await mobot.router.GetPolicy(router_service_pb2.GetPolicyRequest())).policy
        if as_json:
            printing.print_json(printing.as_json(policy))
            return
        printing.print_table(
            ["RULE", "", "WHO", "MAY", "TO WHOM"],
            [
                [
                    str(number),
                    "allow" if rule.allow else "deny",
                    rule.actor,
                    ", ".join(rule.actions),
                    rule.target,
                ]
                for number, rule in enumerate(policy.rules, 1)
            ],
            empty="No rules: bots of one owner may reach each other, others may not.",
        )

    services.run(command)


@app.command()
def allow(
    actor: ActorArgument,
    target: TargetArgument,
    action: ActionOption = None,
    first: Annotated[bool, typer.Option(help="Put it before the other rules instead of behind them.")] = False,
) -> None:
    """Add a rule that allows."""
    _add(actor, target, action, first=first, allows=True)


@app.command()
def deny(
    actor: ActorArgument,
    target: TargetArgument,
    action: ActionOption = None,
    first: Annotated[bool, typer.Option(help="Put it before the other rules instead of behind them.")] = False,
) -> None:
    """Add a rule that denies."""
    _add(actor, target, action, first=first, allows=False)


@app.command()
def remove(rule: Annotated[int, typer.Argument(help="The rule's number, as show prints it.", min=1)]) -> None:
    """Take a rule out."""
    from chassis.errors import field_invalid
    from mobot_cli import services

    async def command(mobot: services.Services) -> None:
        policy = await _get(mobot)
        if rule > len(policy.rules):
            raise field_invalid("RULE", f"there are {len(policy.rules)} rules")
        del policy.rules[rule - 1]
        await _set(mobot, policy)

    services.run(command)


def _add(actor: str, target: str, actions: list[str] | None, *, first: bool, allows: bool) -> None:
    from chassis.errors import field_invalid
    from mobot.router.v1 import message_pb2
    from mobot_cli import services

    async def command(mobot: services.Services) -> None:
        wrong = [each for each in actions or [] if each not in _ACTIONS]
        if wrong:
            raise field_invalid("--action", f"{wrong[0]!r} is none of {', '.join(_ACTIONS)}")
        rule = message_pb2.PolicyRule(
            actor=_pattern(actor), target=_pattern(target), actions=actions or _ACTIONS, allow=allows
        )
        policy = await _get(mobot)
        policy.rules.insert(0 if first else len(policy.rules), rule)
        await _set(mobot, policy)

    services.run(command)


def _pattern(text: str) -> str:
    return text if text.startswith(("bots/", "label:")) else f"bots/{text}"


async def _get(mobot: "Services") -> "message_pb2.Policy":
    from mobot.router.v1 import router_service_pb2

    return (await mobot.router.GetPolicy(router_service_pb2.GetPolicyRequest())).policy


async def _set(mobot: "Services", policy: "message_pb2.Policy") -> None:
    """Replaces the policy, unless somebody else has changed it since it was read."""
    from mobot.router.v1 import router_service_pb2
    from mobot_cli import printing

    stored = (await mobot.router.SetPolicy(router_service_pb2.SetPolicyRequest(policy=policy))).policy
    count = len(stored.rules)
    printing.print_line(f"{count} {'rule' if count == 1 else 'rules'} now: mobot policy show")
