"""Resource names: the grammar of bots, sessions, memories, blocks and workers, and of clients' session keys.

Names look like paths but never touch a file system; even so nothing that a file system could misread is let in.
"""

import re
import unicodedata
from typing import NamedTuple

from chassis.errors import RESOURCE_NAME_INVALID, FieldViolation, InvalidArgument

BOT_ID = r"[a-z0-9][a-z0-9_-]{0,63}"
SESSION_ID = r"[A-Za-z0-9][A-Za-z0-9._:@+=~-]{0,255}"
MEMORY_ID = r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}"
WORKER_ID = r"[A-Za-z0-9][A-Za-z0-9._:@+=~-]{0,127}"

_SESSION_KEY_PREFIX = "agent"


class SessionName(NamedTuple):
    """A session by its two ids: `bots/{bot}/sessions/{session}` to services, `agent:{bot}:{session}` to clients."""

    bot: str
    session: str

    @property
    def name(self) -> str:
        return f"bots/{self.bot}/sessions/{self.session}"

    @property
    def key(self) -> str:
        return f"{_SESSION_KEY_PREFIX}:{self.bot}:{self.session}"


class MemoryName(NamedTuple):
    """A memory by its two ids: `bots/{bot}/memories/{memory}`."""

    bot: str
    memory: str

    @property
    def name(self) -> str:
        return f"bots/{self.bot}/memories/{self.memory}"


class BlockName(NamedTuple):
    """A block of a bot's memory by its two ids: `bots/{bot}/blocks/{block}`."""

    bot: str
    block: str


class _IdRule(NamedTuple):
    noun: str
    pattern: re.Pattern[str]
    alphabet: re.Pattern[str]
    first: re.Pattern[str]
    max_length: int
    description: str


_BOT = _IdRule(
    "bot id",
    re.compile(BOT_ID),
    re.compile(r"[a-z0-9_-]"),
    re.compile(r"[a-z0-9]"),
    64,
    "1 to 64 characters of a-z 0-9 _ -, starting with a letter or digit",
)
_SESSION = _IdRule(
    "session id",
    re.compile(SESSION_ID),
    re.compile(r"[A-Za-z0-9._:@+=~-]"),
    re.compile(r"[A-Za-z0-9]"),
    256,
    "1 to 256 characters of A-Z a-z 0-9 . _ : @ + = ~ -, starting with a letter or digit, without '..'",
)
_MEMORY = _IdRule(
    "memory id",
    re.compile(MEMORY_ID),
    re.compile(r"[A-Za-z0-9._~-]"),
    re.compile(r"[A-Za-z0-9]"),
    128,
    "1 to 128 characters of A-Z a-z 0-9 . _ ~ -, starting with a letter or digit, without '..'",
)
_BLOCK = _BOT._replace(noun="block id")
_WORKER = _IdRule(
    "worker id",
    re.compile(WORKER_ID),
    re.compile(r"[A-Za-z0-9._:@+=~-]"),
    re.compile(r"[A-Za-z0-9]"),
    128,
    "1 to 128 characters of A-Z a-z 0-9 . _ : @ + = ~ -, starting with a letter or digit, without '..'",
)

# Letters of other scripts that print like an ASCII letter (a part of Unicode's confusables table).
_LOOK_ALIKES = dict(
    zip(
        "аеорсухіјѕԁԛԝһӏАВЕКМНОРСТХІЈЅαονρικυΑΒΕΖΗΙΚΜΝΟΡΤΥΧıɡ‐‑‒–—−․։∶",  # noqa: RUF001 - the table is made of them
        "aeopcyxijsdqwhlABEKMHOPCTXIJSaovpikuABEZHIKMNOPTYXig------.::",
        strict=True,
    )
)


def check_bot_id(bot: str, *, field: str = "bot_id") -> str:
    """Returns `bot` if it is a legal bot id, else raises RESOURCE_NAME_INVALID naming the rule."""
    return _check(_BOT, bot, field)


def check_session_id(session: str, *, field: str = "session_id") -> str:
    """Returns `session` if it is a legal session id, else raises RESOURCE_NAME_INVALID naming the rule."""
    return _check(_SESSION, session, field)


def check_memory_id(memory: str, *, field: str = "memory_id") -> str:
    """Returns `memory` if it is a legal memory id, else raises RESOURCE_NAME_INVALID naming the rule."""
    return _check(_MEMORY, memory, field)


def check_worker_id(worker: str, *, field: str = "worker_id") -> str:
    """Returns `worker` if it is a legal worker id, else raises RESOURCE_NAME_INVALID naming the rule."""
    return _check(_WORKER, worker, field)


def bot_name(bot: str) -> str:
    """ "main" -> "bots/main"."""
    return f"bots/{check_bot_id(bot)}"


def session_name(bot: str, session: str) -> str:
    """("main", "inbox") -> "bots/main/sessions/inbox"."""
    return f"bots/{check_bot_id(bot)}/sessions/{check_session_id(session)}"


def memory_name(bot: str, memory: str) -> str:
    """("main", "m1") -> "bots/main/memories/m1"."""
    return f"bots/{check_bot_id(bot)}/memories/{check_memory_id(memory)}"


def worker_name(worker: str) -> str:
    """ "w1" -> "workers/w1"."""
    return f"workers/{check_worker_id(worker)}"


def parse_bot(name: str, *, field: str = "name") -> str:
    """ "bots/main" -> "main"; raises RESOURCE_NAME_INVALID about `field`."""
    (bot,) = _split(name, field, "bots/{bot}", ("bots",))
    return _check(_BOT, bot, field)


def parse_session(name: str, *, field: str = "name") -> SessionName:
    """ "bots/main/sessions/inbox" -> SessionName("main", "inbox"); raises RESOURCE_NAME_INVALID about `field`."""
    bot, session = _split(name, field, "bots/{bot}/sessions/{session}", ("bots", "sessions"))
    return SessionName(_check(_BOT, bot, field), _check(_SESSION, session, field))


def parse_memory(name: str, *, field: str = "name") -> MemoryName:
    """ "bots/main/memories/m1" -> MemoryName("main", "m1"); raises RESOURCE_NAME_INVALID about `field`."""
    bot, memory = _split(name, field, "bots/{bot}/memories/{memory}", ("bots", "memories"))
    return MemoryName(_check(_BOT, bot, field), _check(_MEMORY, memory, field))


def parse_block(name: str, *, field: str = "name") -> BlockName:
    """ "bots/main/blocks/human" -> BlockName("main", "human"); raises RESOURCE_NAME_INVALID about `field`."""
    bot, block = _split(name, field, "bots/{bot}/blocks/{block}", ("bots", "blocks"))
    return BlockName(_check(_BOT, bot, field), _check(_BLOCK, block, field))


def parse_worker(name: str, *, field: str = "name") -> str:
    """ "workers/w1" -> "w1"; raises RESOURCE_NAME_INVALID about `field`."""
    (worker,) = _split(name, field, "workers/{worker}", ("workers",))
    return _check(_WORKER, worker, field)


def parse_session_key(key: str, *, field: str = "session_key") -> SessionName:
    """The clients' key "agent:main:inbox" -> SessionName("main", "inbox").

    The bot's part is folded to lower case, because clients treat it as case-insensitive; the rest is kept as it is.
    """
    prefix, _, rest = key.partition(":")
    bot, colon, session = rest.partition(":")
    if prefix.lower() != _SESSION_KEY_PREFIX or not colon:
        raise name_invalid(field, key, "must look like agent:{bot}:{session}")
    return SessionName(_check(_BOT, bot.lower() if bot.isascii() else bot, field), _check(_SESSION, session, field))


def _split(name: str, field: str, shape: str, collections: tuple[str, ...]) -> list[str]:
    segments = name.split("/")
    if len(segments) != 2 * len(collections) or tuple(segments[::2]) != collections:
        raise name_invalid(field, name, f"must look like {shape}")
    return segments[1::2]


def _check(rule: _IdRule, value: str, field: str) -> str:
    if rule.pattern.fullmatch(value) and ".." not in value:
        return value
    raise name_invalid(field, value, f"{rule.noun} {_broken_rule(rule, value)}")


def _broken_rule(rule: _IdRule, value: str) -> str:
    if not value:
        return f"must not be empty; it is {rule.description}"
    if ".." in value or "/" in value or "\\" in value:
        return f"must not look like a path (no '..', '/' or '\\'); it is {rule.description}"
    for character in value:
        if not rule.alphabet.fullmatch(character):
            return f"must not contain {_describe(character)}; it is {rule.description}"
    if len(value) > rule.max_length:
        return f"must not be longer than {rule.max_length} characters (was {len(value)})"
    return f"must not start with {_describe(value[0])}; it is {rule.description}"


def _describe(character: str) -> str:
    """The character by code point and name, since those it helps against cannot be told apart, or seen, on screen."""
    code_point = f"U+{ord(character):04X}"
    label = unicodedata.name(character, "")
    twin = _LOOK_ALIKES.get(character) or _ascii_form(character)
    if twin:
        return f"{code_point} {label} (it looks like {twin!r} but is another character)"
    category = unicodedata.category(character)
    if category == "Cf":
        return f"the invisible character {code_point} {label}".rstrip()
    if category.startswith("C"):
        return f"the control character {code_point} {label}".rstrip()
    return f"{character!r} ({code_point} {label})" if character.isprintable() else f"{code_point} {label}".rstrip()


def _ascii_form(character: str) -> str:
    if character.isascii():
        return ""
    bare = "".join(c for c in unicodedata.normalize("NFKD", character) if not unicodedata.combining(c))
    return bare if bare.isascii() and bare.isalnum() else ""


def name_invalid(field: str, value: str, rule: str) -> InvalidArgument:
    """RESOURCE_NAME_INVALID: `value`, in the request's `field`, breaks `rule` ("must look like bots/{bot}")."""
    # ascii() keeps control characters and look-alikes out of messages, logs and terminals.
    shown = ascii(value if len(value) <= 80 else value[:80] + "...")
    return InvalidArgument(
        f"{field}: {rule} (was {shown})",
        reason=RESOURCE_NAME_INVALID,
        metadata={"field": field, "value": shown, "rule": rule},
        violations=(FieldViolation(field, rule),),
    )
