"""The commands around mail and memory, run in this process against the real services and a runner."""

import asyncio
import json
from dataclasses import dataclass

import pytest
from typer.testing import CliRunner

from bot_sdk.errors import NeedsDecision
from bot_sdk.worker import Worker
from mobot.registry.v1 import bot_pb2
from mobot_cli.app import app

WORKER = bot_pb2.Brain(worker=bot_pb2.WorkerBrain())


@dataclass
class Done:
    code: int
    out: str
    err: str

    def json(self):
        return json.loads(self.out)


@pytest.fixture
async def mobot(services, hosting, monkeypatch):
    """Runs one command and gives what it said; main and scout are echo bots, and nobody serves sleeper."""
    for name, target in services.targets.items():
        monkeypatch.setenv(f"MOBOT_{name.upper()}_TARGET", target)
    monkeypatch.setenv("MOBOT_DATA_DIR", str(services.data_dir))
    monkeypatch.setenv("MOBOT_TOKEN", "secret")
    for bot in ("main", "scout"):
        await services.add_bot(bot)
    await services.add_bot("sleeper", brain=WORKER)

    async def mobot(*arguments, code=0):
        result = await asyncio.to_thread(CliRunner().invoke, app, list(arguments))
        done = Done(result.exit_code, result.stdout, result.stderr)
        assert done.code == code, done
        return done

    async with hosting():
        yield mobot


async def until(look, words):
    """Returns once what a command prints has the words."""
    async with asyncio.timeout(40):
        while True:
            if words in (await look()).out:
                return
            await asyncio.sleep(0.1)


async def test_mail_for_a_sleeping_bot_is_seen_waited_for_and_cancelled(mobot):
    run = (await mobot("send", "sleeper", "wake up", "--no-wait", "--json")).json()["run"]
    listed = await mobot("mail", "list", "--bot", "sleeper")
    assert run in listed.out
    assert "queued" in listed.out
    assert all(line == line.rstrip() for line in listed.out.splitlines())
    assert (await mobot("mail", "show", run)).json()["state"] == "MESSAGE_STATE_QUEUED"
    (stats,) = (await mobot("mail", "stats", "--bot", "sleeper", "--json")).json()
    assert stats["queued_count"] == "1"
    assert "sleeper" in (await mobot("mail", "stats")).out
    assert "goes on: queued" in (await mobot("mail", "wait", run, "--timeout", "0.2", code=3)).err
    assert f"Cancelled: {run}" in (await mobot("mail", "cancel", run)).out
    assert "ended as cancelled" in (await mobot("mail", "wait", run, code=1)).err
    assert (await mobot("mail", "list", "--bot", "sleeper", "--state", "queued", "--json")).json() == []
    assert (await mobot("mail", "dead-letters", "--bot", "sleeper")).out == "No dead letters.\n"
    assert (await mobot("mail", "redrive", "--all", "--bot", "sleeper")).out == "Sent again: 0\n"
    assert (await mobot("mail", "discard", "--all", "--bot", "sleeper", "--yes")).out == "Discarded: 0\n"


async def test_who_waits_for_a_run_that_stopped_to_ask_is_told_the_question_and_how_to_answer(mobot, services):
    async def careful(turn):
        if turn.decision is None:
            raise NeedsDecision("Really?", choices=("yes", "no"))
        return f"They said {turn.decision.answer}."

    worker = Worker(services.dialer("workers/w1"), worker_id="w1", handlers={"sleeper": careful}, grace_s=0.5)
    running = asyncio.create_task(worker.run())
    try:
        words = "run r1 waits for a decision: Really? Answer: mobot mail resolve r1 yes|no"
        await mobot("send", "sleeper", "do it", "--key", "r1", "--no-wait")
        await until(lambda: mobot("history", "sleeper"), words)
        assert words in (await mobot("mail", "wait", "r1", "--timeout", "1", code=3)).err
        await mobot("mail", "resolve", "r1", "yes")
        assert (await mobot("mail", "wait", "r1")).out == "They said yes.\n"
    finally:
        worker.drain()
        await running


async def test_a_task_is_spawned_once_and_its_result_comes_to_the_parent(mobot):
    await mobot("sessions", "create", "main/desk")
    spawn = ("spawn", "scout", "count 3", "--session", "thread:sums", "--parent", "main/desk", "--key", "k1", "--json")
    first, again = (await mobot(*spawn)).json(), (await mobot(*spawn)).json()
    assert first["receipt"]["run"] == again["receipt"]["run"]
    assert (await mobot("mail", "wait", first["receipt"]["run"])).out == "1 2 3\n"
    await until(lambda: mobot("history", "main/desk"), "1 2 3")
    assert "SESSION_ALREADY_EXISTS" in (await mobot("spawn", "scout", "x", "--session", "thread:sums", code=1)).err
    given = await mobot("spawn", "scout", "count 2", "--session", "thread:sums", "--if-exists", "use", "--key", "k2")
    assert "Given to scout/thread:sums" in given.out
    assert (await mobot("mail", "wait", "k2")).out == "1 2\n"


async def test_a_topic_reaches_all_who_listen(mobot):
    await mobot("topics", "create", "news", "--description", "what happens")
    for session in ("main/a", "main/b"):
        assert "listens to" in (await mobot("topics", "subscribe", "news", session)).out
    assert "listened already" in (await mobot("topics", "subscribe", "news", "main/a")).out
    assert "Published to 2" in (await mobot("topics", "publish", "news", "it rains")).out
    await until(lambda: mobot("mail", "list", "--state", "succeeded"), "it rains")
    assert "what happens" in (await mobot("topics", "list")).out
    assert "listens no more" in (await mobot("topics", "unsubscribe", "news", "main/a")).out
    await mobot("topics", "delete", "news")
    assert "TOPIC_NOT_FOUND" in (await mobot("topics", "publish", "news", "x", code=1)).err


async def test_a_schedule_is_made_run_paused_and_removed(mobot):
    create = ("schedules", "create", "morning", "main/desk", "good morning")
    await mobot(*create, "--cron", "0 8 * * *", "--time-zone", "Europe/Rome")
    assert "0 8 * * * Europe/Rome" in (await mobot("schedules", "list")).out
    run = (await mobot("schedules", "run", "morning", "--json")).json()["run"]
    await mobot("mail", "wait", run)
    assert "is paused" in (await mobot("schedules", "pause", "morning")).out
    assert "paused" in (await mobot("schedules", "list")).out
    assert "sends again" in (await mobot("schedules", "resume", "morning")).out
    await mobot("schedules", "delete", "morning")
    both = await mobot(*create, "--cron", "* * * * *", "--every", "5", code=1)
    assert "give --cron or --every" in both.err


async def test_a_rule_stops_one_bot_from_writing_to_another_and_is_on_record(mobot):
    assert "1 rule now" in (await mobot("policy", "deny", "main", "sleeper", "--action", "send", "--first")).out
    assert "bots/sleeper" in (await mobot("policy", "show")).out
    said = await mobot("send", "main", "send sleeper: hello")
    assert "That did not work" in said.out
    assert "denied" in (await mobot("audit", "--actor", "bots/main")).out
    assert "0 rules now" in (await mobot("policy", "remove", "1")).out
    assert "there are 0 rules" in (await mobot("policy", "remove", "1", code=1)).err
    assert "No rules" in (await mobot("policy", "show")).out


async def test_a_memory_moves_from_bot_to_bot_as_a_file(mobot, tmp_path):
    file = str(tmp_path / "memory.jsonl")
    for number in range(3):
        await mobot("memory", "add", "main", f"number {number}", "--kind", "fact", "--tag", "count")
    await mobot("memory", "blocks", "write", "main", "persona", "Be kind.", "--read-only")
    assert "persona (read-only)" in (await mobot("memory", "blocks", "list", "main")).out
    assert "read-only" in (await mobot("send", "main", "note persona: be bad")).out

    assert "Exported" in (await mobot("memory", "export", "main", file)).out
    # The first line says when it was.
    printed = (await mobot("memory", "export", "main")).out.splitlines()
    assert _settled(printed[1:]) == _settled((tmp_path / "memory.jsonl").read_text().splitlines()[1:])
    assert "Would read" in (await mobot("memory", "import", "scout", file, "--dry-run")).out
    first = (await mobot("memory", "import", "scout", file, "--json")).json()
    again = (await mobot("memory", "import", "scout", file, "--json")).json()
    assert int(first["created_count"]) == 4
    assert "created_count" not in again
    listed = (await mobot("memory", "list", "scout", "--tag", "count", "--json")).json()
    assert sorted(memory["text"] for memory in listed) == [f"number {number}" for number in range(3)]
    stats = (await mobot("memory", "stats", "scout", "--json")).json()
    assert (stats["memory_count"], stats["block_count"]) == ("3", "1")
    assert "3 fact" in (await mobot("memory", "stats", "scout")).out

    (tmp_path / "memory.jsonl").write_text("not json\n")
    assert "record 1" in (await mobot("memory", "import", "main", file, code=1)).out
    (tmp_path / "memory.jsonl").write_bytes(b"\xff\n")
    assert "line 1 is not UTF-8" in (await mobot("memory", "import", "main", file, code=1)).err
    assert "cannot read" in (await mobot("memory", "import", "main", str(tmp_path / "none"), code=1)).err
    assert "cannot write" in (await mobot("memory", "export", "main", str(tmp_path / "none" / "x"), code=1)).err


async def test_a_memory_is_found_forgotten_restored_made_anew_and_erased(mobot):
    added = (await mobot("memory", "add", "main", "the zebra is striped", "--pin", "--json")).json()
    memory = added["memory"]["name"].rpartition("/")[2]
    assert "Known already" in (await mobot("memory", "add", "main", "the zebra is striped")).out
    assert "zebra" in (await mobot("memory", "search", "main", "zebra", "--explain", "--mode", "text")).out
    assert (await mobot("memory", "show", "main", memory)).json()["pinned"] is True
    await mobot("memory", "forget", "main", memory)
    assert "Nothing remembered yet" in (await mobot("memory", "list", "main")).out
    assert "zebra" in (await mobot("memory", "list", "main", "--deleted")).out
    await mobot("memory", "restore", "main", memory)
    assert "embedded" in (await mobot("memory", "reindex", "main")).out
    erased = (await mobot("memory", "erase", "main", "--yes")).out
    assert "erased 1 memories" in erased
    assert "0 left" in erased
    assert "Nothing found" in (await mobot("memory", "search", "main", "zebra", "--mode", "text")).out
    operations = (await mobot("memory", "operations", "main")).out
    assert "erase" in operations
    assert "reindex" in operations


async def test_what_a_person_may_mistake_is_said(mobot):
    assert "there is no bots/mian yet" in (await mobot("memory", "add", "mian", "the zebra is striped")).err
    assert (await mobot("memory", "add", "main", "the zebra is striped", "--author", "Ada Lee")).err == ""
    table = (await mobot("memory", "search", "main", "zebra, says Ada", "--explain", "--mode", "text")).out
    head, row = (line.split() for line in table.splitlines())
    assert head[:4] == ["SCORE", "WORDS", "MEANING", "AUTHOR"]
    assert float(row[3]) > 0
    forgotten = (await mobot("memory", "list", "main", "--json")).json()[0]["name"].rpartition("/")[2]
    assert "FORGOTTEN" not in (await mobot("memory", "list", "main")).out
    await mobot("memory", "forget", "main", forgotten)
    assert "FORGOTTEN" in (await mobot("memory", "list", "main", "--deleted")).out
    assert "must be 1 s to 3153600000 s" in (await mobot("memory", "add", "main", "x", "--ttl", "1e-9", code=1)).err
    refused = await mobot("memory", "add", "main", "no \udcff UTF-8", code=1)
    assert refused.err == "mobot: an argument is not UTF-8\n"


async def test_a_part_of_a_memory_is_lent_and_taken_back(mobot):
    await mobot("memory", "add", "main", "the budget is 40", "--tag", "budget")
    given = await mobot("memory", "grants", "give", "main", "scout", "--tag", "budget", "--days", "1")
    grant = given.out.split()[1].rstrip(",")
    assert grant in (await mobot("memory", "grants", "list", "main")).out
    assert grant in (await mobot("memory", "grants", "list", "scout", "--received")).out
    await mobot("memory", "grants", "revoke", grant)
    assert (await mobot("memory", "grants", "list", "main")).out == "None.\n"
    assert (await mobot("memory", "grants", "accesses", "main")).out == "Nobody yet.\n"


MISTAKES = (
    (("mail", "show", "no-such-run"), "MESSAGE_NOT_FOUND"),
    (("mail", "list", "--state", "asleep"), "none of accepted"),
    (("mail", "redrive"), "name dead letters"),
    (("mail", "redrive", "--all"), "say which"),
    (("send", "topics/news", "x"), "mobot topics publish news"),
    (("mail", "cancel"), "give a run or --session"),
    (("mail", "resolve", "no-such-run", "retry"), "reason"),
    (("spawn", "main", "x", "--if-exists", "perhaps"), "none of fail, use, replace"),
    (("policy", "allow", "main", "scout", "--action", "sing"), "none of send, spawn, read"),
    (("memory", "search", "main", "x", "--mode", "guess"), "none of hybrid, text, vector"),
    (("memory", "add", "main", "x", "--kind", "rumour"), "none of note"),
    (("memory", "forget", "main", "no such"), "RESOURCE_NAME_INVALID"),
    (("memory", "import", "main", "x", "--conflict", "fight"), "none of skip, replace, rename"),
    (("watch", "nobody/x"), "BOT_NOT_FOUND"),
)


async def test_every_mistake_is_named(mobot):
    for arguments, words in MISTAKES:
        assert words in (await mobot(*arguments, code=1)).err, arguments


def _settled(lines):
    """Vectors are made in the background, and may have been between two looks."""
    return [line.replace("VECTOR_STATE_PENDING", "VECTOR_STATE_READY") for line in lines]
