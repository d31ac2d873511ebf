"""What a bot sees of the world: plain, immutable values, with nothing of the wire in them.

Sessions, bots and memories are named as on the wire (`bots/{bot}/sessions/{session}`); times are UTC and aware.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, StrEnum
from typing import TypeAlias, TypedDict


class Role(StrEnum):
    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"


class Effect(Enum):
    """What a repetition of a step would do to the world outside."""

    IDEMPOTENT = "idempotent"
    COMPENSABLE = "compensable"
    ONCE = "once"


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write one run's events; `epoch` only grows within a session."""

    run: str
    session: str
    bot: str
    epoch: int
    attempt: int


@dataclass(frozen=True, slots=True)
class BotProfile:
    """A bot's own settings. `name` is `bots/{bot}`."""

    name: str
    display_name: str = ""
    description: str = ""
    instructions: str = ""
    emoji: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return self.name.removeprefix("bots/")

    @property
    def title(self) -> str:
        """The name people read."""
        return self.display_name or self.id


@dataclass(frozen=True, slots=True)
class BotSummary:
    """A bot as a list shows it. `state` is for example "IDLE"; `brain` is "echo", "openai", "worker" or "openclaw"."""

    profile: BotProfile
    brain: str
    state: str
    enabled: bool


@dataclass(frozen=True, slots=True)
class InboundMessage:
    """The message a turn works on. `name` is `messages/{message}`; `source` is a session or a principal."""

    name: str
    text: str
    source: str
    sender: str
    user_input: bool
    reply_to: str
    in_reply_to: str
    correlation_id: str
    subject: str
    type: str
    hop_count: int
    metadata: Mapping[str, str]
    traceparent: str
    create_time: datetime | None
    sequence: int
    run: str = ""

    @property
    def from_session(self) -> bool:
        """Whether another session's bot wrote it rather than a person or a program."""
        return "/sessions/" in self.source


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person decided on a run that had stopped to ask."""

    answer: str
    call_id: str
    actor: str


@dataclass(frozen=True, slots=True)
class Said:
    """A committed message. `partial` is the text of an attempt that did not end."""

    event_id: str
    sequence: int
    run: str
    role: Role
    text: str
    source: str
    time: datetime | None
    inter_session: bool = False
    partial: bool = False


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A bot called a tool, or is about to: only a `ToolResult` of the same `call_id` says that it answered."""

    event_id: str
    sequence: int
    run: str
    call_id: str
    tool: str
    arguments_json: str
    effect: Effect
    time: datetime | None


@dataclass(frozen=True, slots=True)
class ToolResult:
    """A tool's answer. `text` is JSON where the tool answers with data."""

    event_id: str
    sequence: int
    run: str
    call_id: str
    tool: str
    text: str
    is_error: bool
    time: datetime | None


Entry: TypeAlias = Said | ToolCall | ToolResult


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A session as lists show it."""

    name: str
    key: str
    uid: str = ""
    label: str = ""
    display_name: str = ""
    description: str = ""
    status: str = "IDLE"
    persistent: bool = False
    archived: bool = False
    created_via: str = ""
    group: str = ""
    pinned: bool = False
    model: str = ""
    message_count: int = 0
    total_tokens: int = 0
    last_sequence: int = 0
    last_activity: datetime | None = None
    last_message: str = ""
    derived_title: str = ""


@dataclass(frozen=True, slots=True)
class SessionPage:
    """Some sessions. `total` counts all that fit, also those not in the page."""

    sessions: tuple[SessionInfo, ...]
    total: int


@dataclass(frozen=True, slots=True)
class TurnContext:
    """What a turn begins or goes on with.

    `summary` stands for what came before `history`; `committed` is what earlier attempts of this run wrote, the inbound
    message first; `truncated` says that older events were left out.
    """

    session: SessionInfo
    summary: str
    history: tuple[Entry, ...]
    committed: tuple[Entry, ...]
    truncated: bool


@dataclass(frozen=True, slots=True)
class Receipt:
    """A message was accepted and is durable. `run` is what to wait for; nobody has answered it yet."""

    message: str
    run: str
    session: str
    state: str
    duplicate: bool
    queue_position: int


@dataclass(frozen=True, slots=True)
class RunResult:
    """A run as it is now. `state` is for example "SUCCEEDED"; `done` says whether it has ended."""

    run: str
    session: str
    state: str
    done: bool
    reply: str
    error_reason: str
    error_message: str

    @property
    def succeeded(self) -> bool:
        return self.state == "SUCCEEDED"


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of asking; without a receipt the time was over first, and a late reply will be mail."""

    result: RunResult
    receipt: Receipt | None = None


@dataclass(frozen=True, slots=True)
class SpawnWish:
    """A child session to make, and its first task.

    `session_id` is chosen by the caller, or generated when empty. `if_exists`: "fail", "use" (the task goes to the
    session that is there) or "replace" (it is reset first). `cleanup`: "keep", "archive" or "delete" it after its run.
    With `announce` the result comes to `parent` as one message, whatever the end was.
    """

    parent: str
    task: str
    bot: str = ""
    session_id: str = ""
    label: str = ""
    description: str = ""
    group: str = ""
    model: str = ""
    persistent: bool = False
    overrides: Mapping[str, str] = field(default_factory=dict)
    if_exists: str = "fail"
    forked: bool = False
    cleanup: str = "keep"
    timeout_s: float | None = None
    announce: bool = True


class SpawnOptions(TypedDict, total=False):
    """The fields of a `SpawnWish` that a turn may leave out."""

    bot: str
    label: str
    description: str
    group: str
    model: str
    persistent: bool
    overrides: Mapping[str, str]
    if_exists: str
    forked: bool
    cleanup: str
    timeout_s: float | None
    announce: bool


@dataclass(frozen=True, slots=True)
class Spawned:
    """A child has its task. Not `created`: it was there already."""

    receipt: Receipt
    created: bool


@dataclass(frozen=True, slots=True)
class MailboxInfo:
    """How many messages wait, are worked on, and were given up."""

    queued: int
    in_flight: int
    dead_letters: int


class MemorySource(Enum):
    """By what way a memory was put."""

    API = "api"
    TOOL = "tool"
    REFLECTION = "reflection"


@dataclass(frozen=True, slots=True)
class Memory:
    """Something a bot remembers. `score` is 0 unless it was found by a search.

    `session`, `event_sequence` and `run` say where it comes from, as far as that is known.
    """

    name: str
    text: str
    kind: str
    tags: tuple[str, ...]
    create_time: datetime | None
    score: float = 0.0
    importance: float = 0.5
    pinned: bool = False
    author: str = ""
    session: str = ""
    event_sequence: int = 0
    run: str = ""

    @property
    def id(self) -> str:
        return self.name.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class NearDuplicate:
    """A memory that says nearly the same as another; `similarity` is a cosine."""

    memory: str
    similarity: float
    excerpt: str


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of a put. Not `created`: the text was there already and counts as used."""

    memory: Memory
    created: bool
    near_duplicates: tuple[NearDuplicate, ...]


@dataclass(frozen=True, slots=True)
class MemoryPage:
    """Some memories, and the token of the page behind them, empty on the last one."""

    memories: tuple[Memory, ...]
    next_page_token: str


@dataclass(frozen=True, slots=True)
class Block:
    """A small text that is always in the bot's context. `max_characters` bounds the text."""

    name: str
    text: str
    description: str = ""
    max_characters: int = 4_000
    read_only: bool = False
    version: int = 0
    etag: str = ""

    @property
    def id(self) -> str:
        return self.name.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Recollection:
    """What a turn is told of what its bot remembers: every block, and the memories that fit the budget."""

    blocks: tuple[Block, ...] = ()
    memories: tuple[Memory, ...] = ()

    def text(self) -> str:
        """As it is put before a model; empty when there is nothing. Each memory carries its id, to be cited by."""
        parts = [f"<{block.id}>\n{block.text}\n</{block.id}>" for block in self.blocks if block.text]
        if self.memories:
            lines = [f"- [{memory.id}] {memory.text}" for memory in self.memories]
            parts.append("\n".join(["What you remember that may matter here:", *lines]))
        return "\n\n".join(parts)


@dataclass(frozen=True, slots=True)
class Consumption:
    """What a turn consumed of a model."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    requests: int = 0
    tool_calls: int = 0
