"""block_edit: a bot changes the small texts that are always in its context."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from bot_runner.tools.tool import Call, Params, Tool
from bot_sdk.steps import Json
from chassis import errors

_MAX_TEXT = 32_000


class BlockEditParams(Params):
    block: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")] = Field(
        description="The block's name, such as human or project."
    )
    action: Literal["replace", "append", "write"] = Field(
        description="replace: `old` becomes `text`. append: `text` becomes its last line. write: `text` is all of it."
    )
    text: Annotated[str, Field(max_length=_MAX_TEXT)] = Field(description="The new text.")
    old: Annotated[str, Field(max_length=_MAX_TEXT)] = Field(
        "", description="For replace: the words to replace, as they stand in the block, once."
    )
    description: Annotated[str, Field(max_length=512)] = Field("", description="For write: what the block is for.")

    @model_validator(mode="after")
    def _words_to_replace(self) -> "BlockEditParams":
        if (self.action == "replace") != bool(self.old):
            raise ValueError("give `old` with the action replace, and only there")
        return self


async def block_edit(call: Call, params: BlockEditParams) -> Json:
    memory = call.turn.memory
    if params.action == "write":
        block = await memory.put_block(params.block, params.text, description=params.description, request_id=call.key)
    else:
        block = await memory.edit_block(params.block, lambda text: _changed(text, params), request_id=call.key)
    return {"status": "ok", "block": block.id, "text": block.text, "version": block.version}


def _changed(text: str, params: BlockEditParams) -> str:
    if params.action == "append":
        return f"{text}\n{params.text}" if text else params.text
    count = text.count(params.old)
    if count != 1:
        raise errors.InvalidArgument(
            f"`old` stands in the block {count} times; give more of the words around it"
            if count
            else f"`old` does not stand in the block, which reads: {text}",
            reason="BLOCK_TEXT_NOT_FOUND",
        )
    return text.replace(params.old, params.text)


BLOCK_EDIT = Tool(
    "block_edit",
    "Changes one of your blocks: the small texts that are always before you, such as what you know of the person you "
    "talk to. For everything else use memory_save.",
    BlockEditParams,
    block_edit,
)
