"""An import from its first byte to its report. Each session is stored whole in a commit of its own, or not at all; what
came before is left alone, so that an import that was broken off is simply made again."""

import asyncio
import shutil
import tempfile
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from chassis.errors import AppError
from chassis.resource_names import SessionName, check_bot_id, parse_session
from session_service.domain import errors
from session_service.domain.event import OWN_ID_PREFIX
from session_service.domain.transfer import LINE_UNREADABLE, SESSION_REFUSED, Arrival, Parcel, Problem
from session_service.domain.transfer_errors import SessionOfAnother
from session_service.portability import archive, foreign_files, foreign_sqlite
from session_service.portability.foreign_session import session_from
from session_service.portability.foreign_text import session_id_of
from session_service.portability.intake import Intake, Kind, lines_of
from session_service.store import transferring
from session_service.store.store import Store
from session_service.store.transaction import micros

T = TypeVar("T")

MAX_PROBLEMS = 1_000
MAX_NAMES = 10_000
_NAMESPACE = uuid.UUID("6f0f7c0e-9c3b-5a52-8d0e-5f1d3f6f9a10")
_CHUNK = 500


class Order(NamedTuple):
    """What is to be done. `bot` empty: each session goes to the bot it names. `use_existing`: leave alone those that
    exist and come from elsewhere, instead of refusing the import."""

    bot: str
    actor: str
    dry_run: bool
    use_existing: bool


class ImportReport(NamedTuple):
    kind: Kind
    created: Sequence[str]
    created_count: int
    unchanged_count: int
    skipped_count: int
    event_count: int
    problems: Sequence[Problem]


class _Problems:
    """At most MAX_PROBLEMS are kept; how many more there were is said."""

    def __init__(self) -> None:
        self._kept: list[Problem] = []
        self._more = 0

    def add(self, problem: Problem) -> None:
        if len(self._kept) < MAX_PROBLEMS:
            self._kept.append(problem)
        else:
            self._more += 1

    def all(self) -> list[Problem]:
        if not self._more:
            return self._kept
        return [*self._kept, Problem("", f"{self._more} more problems are not listed", LINE_UNREADABLE)]


class Importer:
    """Makes one import."""

    def __init__(self, store: Store, intake: Intake, order: Order, check_bot: Callable[[str], Awaitable[None]]) -> None:
        """`check_bot` raises for a bot that does not exist."""
        self._store = store
        self._intake = intake
        self._order = order
        self._check_bot = check_bot
        self._problems = _Problems()
        self._unknown_bots: set[str] = set()
        self._known_bots: set[str] = set()

    async def run(self) -> ImportReport:
        """Raises ImportUnreadable, ImportUnsafe, ImportTooLarge, SessionOfAnother, BotNotFound."""
        with tempfile.TemporaryDirectory(prefix="mobot-import-") as directory:
            path = Path(directory) / "store.sqlite"
            if self._intake.kind is Kind.OPENCLAW_SQLITE:
                await asyncio.to_thread(self._copy_to, path)
            await self._refuse_others(path)
            return await self._take(path)

    def _copy_to(self, path: Path) -> None:
        self._intake.file.seek(0)
        with path.open("wb") as target:
            shutil.copyfileobj(self._intake.file, target)

    async def _refuse_others(self, path: Path) -> None:
        """Looks at the names before anything is written."""
        keys = _keys(self._intake, path, self._order.bot)
        if self._order.bot:
            await self._check_bot(self._order.bot)
        while chunk := await asyncio.to_thread(_some, keys, _CHUNK):
            if self._order.use_existing:
                continue
            names = [name.name for name, _ in chunk]
            present = await self._store.read(partial(transferring.find_presences, names=names))
            for name, uid in chunk:
                uids = present.get(name.name)
                if uids is not None and uids.isdisjoint((uid, _other_uid(name, uid))):
                    raise SessionOfAnother(name.name)

    async def _take(self, path: Path) -> ImportReport:
        created: list[str] = []
        created_count = unchanged = skipped = event_count = 0
        seen: set[str] = set()
        now = micros(self._store.clock.now())
        parcels = _parcels(self._intake, path, self._order, now, self._problems.add)
        while (parcel := await asyncio.to_thread(next, parcels, None)) is not None:
            if isinstance(parcel, Problem):
                self._problems.add(parcel)
                skipped += 1
                continue
            name = parcel.session.name
            if name in seen:
                self._problems.add(Problem(name, "another session of the import has this name", SESSION_REFUSED))
                skipped += 1
                continue
            seen.add(name)
            arrival = await self._take_one(parcel)
            if arrival is None:
                skipped += 1
            elif arrival.event_count == 0:
                unchanged += 1
            else:
                created_count += 1
                event_count += arrival.event_count
                if len(created) < MAX_NAMES:
                    created.append(name)
        return ImportReport(
            self._intake.kind, created, created_count, unchanged, skipped, event_count, self._problems.all()
        )

    async def _take_one(self, parcel: Parcel) -> Arrival | None:
        """None when it was refused; an arrival without events when it is here already."""
        session = parcel.session
        try:
            await self._admit(session.head.bot)
        except errors.BotNotFound as refusal:
            self._problems.add(Problem(session.name, refusal.message, SESSION_REFUSED))
            return None
        present = await self._store.read(partial(transferring.find_presences, names=[session.name]))
        if session.name in present:
            uids = {transcript.uid for transcript in parcel.transcripts}
            others = {_other_uid(_name_of(parcel), uid) for uid in uids}
            if present[session.name].isdisjoint(uids | others):
                self._problems.add(Problem(session.name, "it exists and is another one: left alone", SESSION_REFUSED))
            else:
                await self._tell_missing(parcel)
            return Arrival(0)
        parcel = await self._with_free_uids(parcel)
        if self._order.dry_run:
            return Arrival(len(parcel.lines))
        strict = self._intake.kind is Kind.ARCHIVE
        try:
            arrival = await self._store.write_unclaimed(
                partial(transferring.store_parcel, parcel=parcel, strict=strict)
            )
        except AppError as refusal:
            if refusal.code in ("UNAVAILABLE", "RESOURCE_EXHAUSTED"):
                raise
            self._problems.add(Problem(session.name, refusal.message, SESSION_REFUSED))
            return None
        if arrival.label_refused:
            self._problems.add(Problem(session.name, f"without its label: {arrival.label_refused}", LINE_UNREADABLE))
        return arrival

    async def _tell_missing(self, parcel: Parcel) -> None:
        """A session that was imported before is left alone, also when its source has gone on since."""
        name = parcel.session.name
        said = [line.event_id for line in parcel.lines if not line.event_id.startswith(OWN_ID_PREFIX)]
        missing = await self._store.read(partial(transferring.count_missing, name=name, event_ids=said))
        if missing:
            rule = f"it is here already, without {missing} of its events: purge it, and import again, to have it whole"
            self._problems.add(Problem(name, rule, SESSION_REFUSED))

    async def _admit(self, bot: str) -> None:
        if bot in self._known_bots:
            return
        if bot in self._unknown_bots:
            raise errors.BotNotFound(f"bots/{bot}")
        try:
            await self._check_bot(bot)
        except errors.BotNotFound:
            self._unknown_bots.add(bot)
            raise
        self._known_bots.add(bot)

    async def _with_free_uids(self, parcel: Parcel) -> Parcel:
        """A uid is one transcript's for ever. A copy beside the original gets uids that follow from its name."""
        uids = [transcript.uid for transcript in parcel.transcripts]
        taken = await self._store.read(partial(transferring.find_uids, uids=uids))
        if not taken:
            return parcel
        name = _name_of(parcel)
        return archive.moved_to(parcel, name, {uid: _other_uid(name, uid) for uid in uids})


def _keys(intake: Intake, path: Path, bot: str) -> Iterator[tuple[SessionName, str]]:
    if intake.kind is Kind.ARCHIVE:
        for given, uid in archive.read_names(lines_of(intake.file)):
            parsed = parse_session(given, field="session.name")
            yield SessionName(bot or parsed.bot, parsed.session), uid
        return
    keyed = (
        foreign_sqlite.keys_in(path)
        if intake.kind is Kind.OPENCLAW_SQLITE
        else foreign_files.keys_in(intake.file, packed=intake.packed)
    )
    for key, uid in keyed:
        name = _name(key, bot)
        if name is not None:
            yield name, uid


def _parcels(
    intake: Intake, path: Path, order: Order, now: int, report: Callable[[Problem], None]
) -> Iterator[Parcel | Problem]:
    if intake.kind is Kind.ARCHIVE:
        for each in archive.read_archive(lines_of(intake.file)):
            if isinstance(each, Problem) or not order.bot or each.session.head.bot == order.bot:
                yield each
            else:
                yield archive.moved_to(each, SessionName(order.bot, each.session.head.session_id), {})
        return
    for found in _foreign(intake, path, report):
        if isinstance(found, Problem):
            yield found
            continue
        name = _name(found.key, order.bot)
        if name is None:
            rule = "its key names no agent: import it into a bot of your choice"
            yield Problem(found.location, rule, SESSION_REFUSED)
            continue
        try:
            yield session_from(
                name,
                found.entry,
                found.generations,
                actor=order.actor,
                now=now,
                location=found.location,
                report=report,
            )
        except AppError as refusal:
            yield Problem(found.location, refusal.message, SESSION_REFUSED)


def _foreign(intake: Intake, path: Path, report: Callable[[Problem], None]) -> Iterator[foreign_files.Found | Problem]:
    if intake.kind is Kind.OPENCLAW_SQLITE:
        return foreign_sqlite.sessions_in(path, report)
    return foreign_files.sessions_in(intake.file, packed=intake.packed, report=report)


def _name(key: str, bot: str) -> SessionName | None:
    """Where a session with a foreign key goes; None when nobody says to which bot."""
    prefix, _, rest = key.partition(":")
    agent, colon, session = rest.partition(":")
    if prefix == "agent" and colon and session:
        try:
            own = check_bot_id(agent.lower())
        except AppError:
            own = ""
        return SessionName(bot or own, session_id_of(session)) if bot or own else None
    return SessionName(bot, session_id_of(key)) if bot else None


def _name_of(parcel: Parcel) -> SessionName:
    return SessionName(parcel.session.head.bot, parcel.session.head.session_id)


def _other_uid(name: SessionName, uid: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, f"{name.name}\0{uid}"))


def _some(items: Iterator[T], count: int) -> list[T]:
    return [item for item, _ in zip(items, range(count), strict=False)]
