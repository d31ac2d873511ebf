"""`mobot memory blocks`: the small texts that are always before a bot."""

import sys
from typing import Annotated

import typer

from mobot_cli.commands.memory_arguments import AsJson, BotArgument

app = typer.Typer(add_completion=False, help="The small texts that are always before a bot.", no_args_is_help=True)
BlockArgument = Annotated[str, typer.Argument(help="The block, e.g. persona.")]


@app.command("list")
def list_blocks(bot: BotArgument, as_json: AsJson = False) -> None:
    """All blocks of a bot, in their order."""
    from mobot.memory.v1 import memory_service_pb2
    from mobot_cli import addresses, printing, services

    async def command(mobot: services.Services) -> None:
        request = memory_service_pb2.ListBlocksRequest(parent=addresses.bot_name(bot), page_size=1000)
        blocks = (await mobot.memory.ListBlocks(request)).blocks
        if as_json:
            printing.print_json([printing.as_json(block) for block in blocks])
            return
        printing.print_table(
            ["BLOCK", "VERSION", "LENGTH", "TEXT"],
            [
                [
                    block.name.rsplit("/", 1)[1] + (" (read-only)" if block.read_only else ""),
                    str(block.version),
                    f"{len(block.text)}/{block.max_characters}",
                    printing.clean(block.text, limit=120),
                ]
                for block in blocks
            ],
            empty=f'No blocks yet: mobot memory blocks write {bot} persona "..."',
        )

    services.run(command)


@app.command()
def show(bot: BotArgument, block: BlockArgument) -> None:
    """A block's text."""
    from mobot.memory.v1 import memory_service_pb2
    from mobot_cli import addresses, printing, services

    async def command(mobot: services.Services) -> None:
        request = memory_service_pb2.GetBlockRequest(name=addresses.block_name(bot, block))
        printing.print_line(printing.clean_block((await mobot.memory.GetBlock(request)).block.text))

    services.run(command)


@app.command()
def write(
    bot: BotArgument,
    block: BlockArgument,
    text: Annotated[str, typer.Argument(help="The whole text; - reads it from standard input.")],
    description: Annotated[str, typer.Option(help="What the block is for; the bot is told.")] = "",
    max_characters: Annotated[int, typer.Option(help="How long it may be; 0: no change.", min=0)] = 0,
    read_only: Annotated[bool | None, typer.Option(help="Whether the bot itself may only read it.")] = None,
) -> None:
    """Write a block, or make it."""
    from mobot.memory.v1 import block_pb2, memory_service_pb2
    from mobot_cli import addresses, printing, services

    whole = sys.stdin.read() if text == "-" else text

    async def command(mobot: services.Services) -> None:
        made = block_pb2.Block(
            name=addresses.block_name(bot, block),
            text=whole,
            description=description,
            max_characters=max_characters,
            read_only=bool(read_only),
        )
        given = {
            "text": True,
            "description": bool(description),
            "max_characters": bool(max_characters),
            "read_only": read_only is not None,
        }
        request = memory_service_pb2.PutBlockRequest(block=made)
        request.update_mask.paths.extend(path for path, is_given in given.items() if is_given)
        answer = await mobot.memory.PutBlock(request)
        printing.print_line(
            f"{'Created' if answer.created else 'Wrote'} {answer.block.name}, version {answer.block.version}"
        )

    services.run(command)


@app.command()
def delete(bot: BotArgument, block: BlockArgument) -> None:
    """Remove a block."""
    from mobot.memory.v1 import memory_service_pb2
    from mobot_cli import addresses, printing, services

    async def command(mobot: services.Services) -> None:
        name = addresses.block_name(bot, block)
        await mobot.memory.DeleteBlock(memory_service_pb2.DeleteBlockRequest(name=name))
        printing.print_line(f"Removed {name}")

    services.run(command)
