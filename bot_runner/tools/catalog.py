"""The standard set of tools, and which of them a bot may call."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from bot_runner.tools.block_tools import BLOCK_EDIT
from bot_runner.tools.mail_tools import AGENTS_LIST, SESSIONS_SEND, SESSIONS_SPAWN, SESSIONS_YIELD
from bot_runner.tools.memory_tools import MEMORY_FORGET, MEMORY_LIST, MEMORY_SAVE, MEMORY_SEARCH
from bot_runner.tools.session_tools import SESSION_STATUS, SESSIONS_HISTORY, SESSIONS_LIST
from bot_runner.tools.tool import Tool

STANDARD: Final[Sequence[Tool[Any]]] = (
    SESSIONS_LIST,
    SESSIONS_HISTORY,
    SESSION_STATUS,
    SESSIONS_SEND,
    SESSIONS_SPAWN,
    SESSIONS_YIELD,
    AGENTS_LIST,
    MEMORY_SAVE,
    MEMORY_SEARCH,
    MEMORY_LIST,
    MEMORY_FORGET,
    BLOCK_EDIT,
)


def tools_of(names: Sequence[str]) -> Mapping[str, Tool[Any]]:
    """The tools by name; all of the standard set when no name is given. Names we do not know are left out."""
    return {tool.name: tool for tool in STANDARD if not names or tool.name in names}
