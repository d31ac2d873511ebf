"""kill -9 in the middle of a streamed answer, of each process in turn and of all at once: what everybody sees after."""

import asyncio
import json
import random
import uuid
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import groupby, pairwise
from pathlib import Path

import pytest
from client import ENDS, Client, Heard, connected, text_of
from harness import DEFAULT_LAYOUT, ISOLATED_LAYOUT, Mobot, running
from session_log import events_of, runs_finished, texts

from mobot.session.v1 import event_pb2

pytestmark = pytest.mark.e2e

_WORDS = 60
_ANSWER = " ".join(str(number) for number in range(1, _WORDS + 1))
_RECOVERY_S = 60.0

EVERYTHING = "everything"


class Mail:
    """What one test sends to a session, and what must be true of it in the end."""

    def __init__(self, bot: str = "main") -> None:
        session = f"crash-{uuid.uuid4()}"
        self.session = f"bots/{bot}/sessions/{session}"
        self.key = f"agent:{bot}:{session}"
        self.runs: list[str] = []
        self.texts: list[str] = []
        self.answers: list[str] = []

    async def send(self, client: Client, text: str, answer: str) -> str:
        """Sends until acknowledged; from then on it must not be lost."""
        run = str(uuid.uuid4())
        acknowledged = await client.send(self.key, text, run)
        assert acknowledged["runId"] == run
        self.runs.append(run)
        self.texts.append(text)
        self.answers.append(answer)
        return run


def kill(mobot: Mobot, victim: str) -> Callable[[], None]:
    """kill -9; returns what waits until mobot is whole again."""
    if victim == EVERYTHING:
        mobot.kill_all()
        return mobot.start
    pid = mobot.pid_of(victim)
    assert pid is not None
    mobot.kill(victim)
    return partial(mobot.wait_restarted, victim, pid)


@pytest.mark.parametrize("victim", [*DEFAULT_LAYOUT, EVERYTHING])
async def test_nothing_is_lost_doubled_or_left_open(default_mobot: Mobot, victim: str) -> None:
    await talk_through_a_crash(default_mobot, victim)


@pytest.mark.parametrize("victim", ["core", "gateway"])
async def test_nothing_is_lost_doubled_or_left_open_with_the_gateway_apart(apart_mobot: Mobot, victim: str) -> None:
    await talk_through_a_crash(apart_mobot, victim)


@pytest.mark.parametrize("victim", [*ISOLATED_LAYOUT, EVERYTHING])
async def test_nothing_is_lost_doubled_or_left_open_in_isolation(isolated_mobot: Mobot, victim: str) -> None:
    await talk_through_a_crash(isolated_mobot, victim)


async def talk_through_a_crash(mobot: Mobot, victim: str) -> None:
    mail, other = Mail(), Mail()
    async with (
        connected(mobot.url, mobot.token, watching=True) as watcher,
        connected(mobot.url, mobot.token) as sender,
        connected(mobot.url, mobot.token) as bystander,
    ):
        interrupted = await mail.send(sender, f"count {_WORDS}", _ANSWER)
        await mail.send(sender, "and then?", "Mo here. You said: and then?")  # waits behind it
        await watcher.streamed(interrupted)
        mend = await asyncio.to_thread(kill, mobot, victim)
        assert not watcher.ends(interrupted), "killed in the middle of the answer"
        mending = asyncio.create_task(asyncio.to_thread(mend))
        for number in range(5):  # while processes die and come back
            await other.send(sender, f"meanwhile {number}", f"Mo here. You said: meanwhile {number}")
        await mending
        await mail.send(sender, "are you back?", "Mo here. You said: are you back?")
        for run in (*mail.runs, *other.runs):
            end = await watcher.ended(run, timeout_s=_RECOVERY_S)
            assert end["state"] == "final", end

        for each in (mail, other):
            check_log(mobot, each)
            await check_history(sender, each)
            check_watch(mobot, watcher, each)
            check_bystander(bystander, each, stayed=bystander.connections == 1)
            for run, text in zip(each.runs, each.texts, strict=True):
                again = await sender.send(each.key, text, run)
                assert (again["runId"], again["status"]) == (run, "ok")
            check_log(mobot, each)
        assert not watcher.resets


@pytest.mark.parametrize("words", [50, 120], ids=["ends within the grace", "outlasts the grace"])
async def test_ctrl_c_in_the_middle_of_an_answer_loses_and_doubles_nothing(tmp_path: Path, words: int) -> None:
    mail, answer = Mail(), " ".join(str(number) for number in range(1, words + 1))
    with running(tmp_path, settings={"MOBOT_GRACE_S": "2"}) as mobot:
        async with connected(mobot.url, mobot.token, watching=True) as watcher:
            interrupted = await mail.send(watcher, f"count {words}", answer)
            await mail.send(watcher, "and then?", "Mo here. You said: and then?")
            await watcher.streamed(interrupted)
            await asyncio.to_thread(mobot.stop)
            await asyncio.to_thread(mobot.start)
            for run in mail.runs:
                assert (await watcher.ended(run, timeout_s=_RECOVERY_S))["state"] == "final"
            check_log(mobot, mail)
            await check_history(watcher, mail)
            check_watch(mobot, watcher, mail)


@pytest.mark.parametrize("seed", [1, 2])
async def test_random_deaths_under_load_lose_and_double_nothing(default_mobot: Mobot, seed: int) -> None:
    """Processes die at any moment, also while others are still coming back; senders never wait for answers."""
    mobot, chance = default_mobot, random.Random(seed)
    mails = [Mail(bot) for bot in ("main", "scout") * 3]
    async with (
        connected(mobot.url, mobot.token, watching=True) as watcher,
        connected(mobot.url, mobot.token) as sender,
    ):
        ending = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for mail in mails:
                tasks.create_task(keep_sending(sender, mail, ending, random.Random(chance.random())))
            for _ in range(5):
                await asyncio.sleep(chance.uniform(0, 2))  # when they die is the point
                await asyncio.to_thread(mobot.kill_if_there, chance.choice(DEFAULT_LAYOUT))
            ending.set()
        await asyncio.to_thread(mobot.wait_ready)
        for mail in mails:
            for run in mail.runs:
                await watcher.ended(run, timeout_s=_RECOVERY_S)
            check_log(mobot, mail)
            await check_history(sender, mail)
            check_watch(mobot, watcher, mail)
        assert not watcher.resets


async def keep_sending(client: Client, mail: Mail, ending: asyncio.Event, chance: random.Random) -> None:
    name = "Scout" if ":scout:" in mail.key else "Mo"
    while not ending.is_set():
        if chance.random() < 0.3:
            words = chance.randint(5, 40)
            await mail.send(client, f"count {words}", " ".join(str(number) for number in range(1, words + 1)))
        else:
            await mail.send(client, f"note {len(mail.runs)}", f"{name} here. You said: note {len(mail.runs)}")
        await asyncio.sleep(chance.uniform(0, 1))


def check_log(mobot: Mobot, mail: Mail) -> None:
    log = events_of(mobot, mail.session)
    assert [event.sequence for event in log] == list(range(1, len(log) + 1)), "gap-free"
    assert runs_finished(log) == mail.runs, "each run ends once, in the order in which they were sent"
    assert texts(log, event_pb2.ROLE_USER) == mail.texts
    assert texts(log, event_pb2.ROLE_ASSISTANT) == mail.answers
    assert len({event.id for event in log}) == len(log)


async def check_history(client: Client, mail: Mail) -> None:
    messages = await client.history(mail.key)
    spoken = [(message["role"], text_of(message)) for message in messages if message["role"] in ("user", "assistant")]
    expected = [
        line
        for text, answer in zip(mail.texts, mail.answers, strict=True)
        for line in (("user", text), ("assistant", answer))
    ]
    assert spoken == expected


def check_watch(mobot: Mobot, watcher: Client, mail: Mail) -> None:
    """Each logged event of the session came once, in the order of the log, whatever broke in between."""
    logged = [each for each in watcher.watched if each.sequence and each.payload.get("sessionKey") == mail.key]
    groups = [(sequence, list(heard)) for sequence, heard in groupby(logged, key=lambda each: each.sequence)]
    sequences = [sequence for sequence, _ in groups]
    assert all(earlier < later for earlier, later in pairwise(sequences)), "in order, none twice"
    for sequence, heard in groups:
        doubled = [what for what, count in Counter(map(_identity, heard)).items() if count > 1]
        assert not doubled, f"sequence {sequence}: {doubled}"
    log = events_of(mobot, mail.session)
    messages = [event.sequence for event in log if event.WhichOneof("payload") == "message"]
    assert [each.sequence for each in logged if each.event == "session.message"] == messages
    ends = [each.payload["runId"] for each in logged if each.event == "chat" and each.payload["state"] in ENDS]
    assert ends == mail.runs
    for run, answer in zip(mail.runs, mail.answers, strict=True):
        (end,) = watcher.ends(run)
        assert text_of(end["message"]) == answer


def check_bystander(bystander: Client, mail: Mail, *, stayed: bool) -> None:
    """A stock client hears of no end twice; if its socket lived through it, of each exactly once."""
    counts = [len(bystander.ends(run)) for run in mail.runs]
    assert max(counts) == 1
    if stayed:
        assert min(counts) == 1


def _identity(heard: Heard) -> str:
    return json.dumps([heard.event, heard.payload], sort_keys=True)
