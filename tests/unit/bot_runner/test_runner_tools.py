"""What the tools answer, as a model sees it."""

import json

import pytest

from bot_runner.tools.catalog import STANDARD, tools_of
from bot_runner.tools.redaction import redacted
from mobot.router.v1 import message_pb2
from mobot.session.v1 import event_pb2, part_pb2

SESSION = "bots/main/sessions/inbox"


@pytest.fixture
def use(world):
    """Makes one call of a tool within a turn of main and returns the answer and whether it is an error."""

    async def use(tool: str, **arguments):
        answers = []

        async def handler(turn):
            answers.append(await tools_of(())[tool].call(turn, arguments))
            return "ok"

        async def scout(turn):
            return "all quiet" if "how" in turn.text else None

        async with world.serving({"main": handler, "scout": scout}):
            run = await world.router.send(SESSION, "go", hop_count=3)
            await world.router.wait(run, "SUCCEEDED")
        return json.loads(answers[0].text), answers[0].is_error

    return use


def say(world, session: str, text: str, role=event_pb2.ROLE_USER) -> None:
    log = world.session.log(session)
    event = event_pb2.Event(id=str(len(log.events)), sequence=len(log.events) + 1)
    event.message.role = role
    event.message.parts.append(part_pb2.Part(text=text))
    log.events.append(event)


@pytest.mark.parametrize("tool", STANDARD, ids=lambda tool: tool.name)
def test_every_tool_tells_its_parameters_and_what_it_is_for(tool):
    schema = tool.schema()
    assert schema["additionalProperties"] is False
    assert all("description" in parameter for parameter in schema["properties"].values())
    assert len(tool.description) > 40


def test_a_bot_gets_the_tools_it_names_or_all():
    assert set(tools_of(["memory_save", "unheard_of"])) == {"memory_save"}
    assert set(tools_of([])) == {tool.name for tool in STANDARD}


async def test_sending_without_waiting_is_accepted_and_not_replied(use, world):
    answer, is_error = await use("sessions_send", agentId="scout", message="hello")
    assert not is_error
    assert answer["status"] == "accepted"
    assert (answer["delivered"], answer["replied"]) == (True, False)
    assert answer["sessionKey"] == "agent:scout:main"
    assert world.router.messages[answer["runId"]].draft.hop_count == 4


async def test_sending_and_waiting_gives_the_reply(use):
    answer, _ = await use("sessions_send", agentId="scout", message="how are you", timeoutSeconds=5)
    assert (answer["status"], answer["replied"], answer["reply"]) == ("ok", True, "all quiet")


async def test_a_reply_that_is_empty_is_told_from_one_that_did_not_come(use):
    answer, _ = await use("sessions_send", agentId="scout", message="hello", timeoutSeconds=5)
    assert (answer["status"], answer["replied"]) == ("no_reply", False)


async def test_a_timeout_says_that_the_message_was_delivered(use):
    answer, _ = await use("sessions_send", agentId="nobody", message="hello", timeoutSeconds=0.1)
    assert (answer["status"], answer["delivered"], answer["replied"]) == ("timeout", True, False)
    assert "do not send it again" in answer["hint"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"message": "x"}, "ARGUMENTS_INVALID"),
        ({"message": "x", "agentId": "a", "label": "b"}, "ARGUMENTS_INVALID"),
        ({"message": "", "agentId": "scout"}, "ARGUMENTS_INVALID"),
        ({"message": "x", "agentId": "scout", "timeoutSeconds": -1}, "ARGUMENTS_INVALID"),
        ({"message": "x", "agentId": "scout", "colour": "red"}, "ARGUMENTS_INVALID"),
        ({"message": "x", "agentId": "../x"}, "RESOURCE_NAME_INVALID"),
        ({"message": "x", "sessionKey": "agent:scout:a/b"}, "RESOURCE_NAME_INVALID"),
        ({"message": "x", "label": "No such label"}, "SESSION_NOT_FOUND"),
        ({"message": "x", "agentId": "nosuch"}, "BOT_NOT_FOUND"),
        ({"message": "x", "sessionKey": "agent:main:inbox", "timeoutSeconds": 5}, "SELF_ASK"),
    ],
)
async def test_what_cannot_be_sent_is_an_error_answer_and_the_run_goes_on(use, arguments, reason):
    answer, is_error = await use("sessions_send", **arguments)
    assert is_error
    assert answer["status"] == "error"
    assert answer["reason"] == reason


async def test_sending_by_label_finds_a_session_of_ones_own(use, world):
    world.session.log("bots/main/sessions/budget").label = "Budget"
    answer, _ = await use("sessions_send", label="Budget", message="note this")
    assert answer["sessionKey"] == "agent:main:budget"


async def test_sessions_are_listed_with_their_newest_messages(use, world):
    say(world, "bots/main/sessions/budget", "the budget is 40")
    say(world, "bots/scout/sessions/secret", "hidden")
    answer, _ = await use("sessions_list", messageLimit=1, includeLastMessage=True)
    rows = {row["key"]: row for row in answer["sessions"]}
    assert set(rows) == {"agent:main:budget", "agent:main:inbox"}
    assert answer["total"] == 2
    assert not answer["hasMore"]
    assert rows["agent:main:budget"]["messages"][0]["text"] == "the budget is 40"
    assert rows["agent:main:budget"]["lastMessage"] == "the budget is 40"


async def test_a_page_of_sessions_says_that_there_are_more(use, world):
    for number in range(5):
        world.session.log(f"bots/main/sessions/s{number}")
    answer, _ = await use("sessions_list", limit=2, offset=1)
    assert len(answer["sessions"]) == 2
    assert answer["hasMore"]


async def test_history_is_read_page_by_page_from_the_newest(use, world):
    for number in range(1, 6):
        say(world, "bots/main/sessions/budget", f"line {number}")
    newest, _ = await use("sessions_history", sessionKey="agent:main:budget", limit=2)
    assert [line["text"] for line in newest["messages"]] == ["line 4", "line 5"]
    before, _ = await use("sessions_history", sessionKey="budget", limit=2, beforeSequence=newest["nextBeforeSequence"])
    assert [line["text"] for line in before["messages"]] == ["line 2", "line 3"]


async def test_history_is_bounded_and_keeps_the_newest(use, world):
    for number in range(30):
        say(world, "bots/main/sessions/budget", f"{number} " + "x" * 7_000)
    answer, _ = await use("sessions_history", sessionKey="budget", limit=100)
    assert answer["truncated"]
    assert answer["messages"][-1]["text"].startswith("29 ")
    assert len(json.dumps(answer)) < 90_000


async def test_secrets_do_not_travel_with_history(use, world):
    say(world, "bots/main/sessions/budget", "the key is sk-abcdefghijklmnopqrstuvwxyz123456")
    answer, _ = await use("sessions_history", sessionKey="budget")
    assert answer["messages"][0]["text"] == "the key is [redacted]"


async def test_sessions_of_other_bots_look_like_missing_ones(use, world):
    say(world, "bots/scout/sessions/secret", "hidden")
    answer, is_error = await use("sessions_history", sessionKey="agent:scout:secret")
    assert is_error
    assert answer["reason"] == "SESSION_NOT_FOUND"


async def test_a_memory_keeps_where_it_comes_from(use, world):
    answer, _ = await use("memory_save", text="the sky is blue", kind="fact", tags=["sky"], importance=0.9)
    stored = world.memory.memories[0]
    assert answer["memory"] == stored.name
    assert stored.provenance.session == SESSION
    assert stored.tags == ["sky"]
    assert stored.importance == 0.9


@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-abcdefghijklmnopqrst",
        "ghp_abcdefghijklmnopqrstuvwx",
        "xoxb-1234567890-abcdefghij",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
        "mb1.Ym90cy9tYWlu.abcdefghijklmnopqrstuvwx",
        "-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_look_alikes_of_secrets_are_hidden_and_other_words_are_not(secret):
    assert redacted(f"see {secret} there") == "see [redacted] there"
    assert redacted("Bearer abcdefghijklmnop1234") == "Bearer [redacted]"
    assert redacted("the task-list is risk-free, Bearer of news") == "the task-list is risk-free, Bearer of news"


async def test_saving_what_is_known_says_so(use, world):
    world.memory.remember("main", "the sky is blue")
    answer, _ = await use("memory_save", text="the sky is blue")
    assert answer["known"]
    assert len(world.memory.memories) == 1


async def test_what_a_search_found_is_cited_by_the_reply(use, world):
    name = world.memory.remember("main", "the sky is blue")
    answer, _ = await use("memory_search", query="sky")
    assert answer["results"][0]["memory"] == name
    (reply,) = [event for event in world.session.log(SESSION).events if event.id.endswith("/reply")]
    assert list(reply.message.cited_memories) == [name]


async def test_memories_are_listed_and_forgotten_by_their_names(use, world):
    world.memory.remember("main", "old")
    newest = world.memory.remember("main", "new")
    world.memory.remember("scout", "hidden")
    listed, _ = await use("memory_list", limit=5)
    assert [row["text"] for row in listed["memories"]] == ["new", "old"]
    answer, is_error = await use("memory_forget", memory=newest)
    assert (answer["status"], is_error) == ("ok", False)
    assert [memory.text for memory in world.memory.memories] == ["old", "hidden"]


@pytest.mark.parametrize("memory", ["m9", "bots/scout/memories/m1"])
async def test_forgetting_what_is_missing_or_anothers_is_the_same_error(use, world, memory):
    world.memory.remember("scout", "hidden")
    answer, is_error = await use("memory_forget", memory=memory)
    assert is_error
    assert answer["reason"] in ("MEMORY_NOT_FOUND", "BOT_NOT_FOUND")
    assert len(world.memory.memories) == 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"action": "write", "text": "new"}, "new"),
        ({"action": "append", "text": "likes tea"}, "Ada, an engineer\nlikes tea"),
        ({"action": "replace", "old": "an engineer", "text": "a poet"}, "Ada, a poet"),
    ],
)
async def test_a_block_is_written_whole_or_changed_in_its_place(use, world, arguments, text):
    world.memory.write_block("main", "human", "Ada, an engineer")
    answer, is_error = await use("block_edit", block="human", **arguments)
    assert not is_error
    assert answer["text"] == world.memory.blocks["bots/main/blocks/human"].text == text


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"action": "replace", "text": "x"}, "ARGUMENTS_INVALID"),
        ({"action": "append", "text": "x", "old": "y"}, "ARGUMENTS_INVALID"),
        ({"action": "replace", "old": "z", "text": "x"}, "BLOCK_TEXT_NOT_FOUND"),
        ({"action": "replace", "old": "a", "text": "x"}, "BLOCK_TEXT_NOT_FOUND"),
        ({"action": "append", "text": "x", "block": "none"}, "BLOCK_NOT_FOUND"),
        ({"action": "write", "text": "x", "block": "law"}, "BLOCK_READ_ONLY"),
        ({"action": "write", "text": "x", "block": "../law"}, "ARGUMENTS_INVALID"),
    ],
)
async def test_an_edit_that_cannot_be_made_is_an_error_answer(use, world, arguments, reason):
    world.memory.write_block("main", "human", "a and a")
    world.memory.write_block("main", "law", "Be good.", read_only=True)
    answer, is_error = await use("block_edit", **{"block": "human", **arguments})
    assert (is_error, answer["reason"]) == (True, reason)


async def test_an_edit_is_made_to_what_somebody_else_has_written_meanwhile(use, world):
    world.memory.write_block("main", "human", "Ada")
    world.memory.changed_by_others = 1
    answer, _ = await use("block_edit", block="human", action="append", text="likes tea")
    assert answer["text"] == "changed by another\nlikes tea"


async def test_a_message_whose_reply_is_wanted_says_where_to(use, world):
    answer, _ = await use("sessions_send", agentId="scout", message="hello", wantReply=True, mode="steer")
    draft = world.router.messages[answer["runId"]].draft
    assert (answer["status"], answer["targetDisposition"]) == ("accepted", "queued")
    assert draft.reply_to == SESSION
    assert draft.mode == message_pb2.BUSY_MODE_STEER


async def test_a_child_is_accepted_under_the_key_that_was_chosen(use, world):
    answer, is_error = await use(
        "sessions_spawn",
        task="plan it",
        sessionKey="thread:budget-planning",
        agentId="scout",
        label="Budget",
        thinking="high",
        context="fork",
        cleanup="archive",
        runTimeoutSeconds=60,
        ifExists="replace",
        announce=False,
    )
    assert not is_error
    assert (answer["status"], answer["created"]) == ("accepted", True)
    assert answer["childSessionKey"] == "agent:scout:thread:budget-planning"
    spawn = world.router.spawns[0].spawn
    assert spawn.parent == SESSION
    assert spawn.context == message_pb2.SPAWN_CONTEXT_FORKED
    assert spawn.cleanup == message_pb2.SPAWN_CLEANUP_ARCHIVE
    assert spawn.conflict_policy == message_pb2.SPAWN_CONFLICT_POLICY_REPLACE
    assert spawn.timeout.seconds == 60
    assert dict(spawn.session.overrides) == {"thinking": "high"}
    assert not spawn.announce


async def test_a_child_that_exists_is_an_error_answer(use, world):
    await world.router.send("bots/main/sessions/kid", "x")
    answer, is_error = await use("sessions_spawn", task="again", sessionKey="kid")
    assert (is_error, answer["reason"]) == (True, "SESSION_ALREADY_EXISTS")


async def test_other_bots_are_listed_with_what_they_are_for(use, world):
    world.registry.add_bot("poet", description="Writes verse.")
    answer, _ = await use("agents_list", search="VERSE")
    assert answer["requester"] == "main"
    assert [agent["id"] for agent in answer["agents"]] == ["poet"]


async def test_the_status_of_a_session_tells_what_waits_for_it(use, world):
    answer, _ = await use("session_status")
    assert (answer["key"], answer["bot"], answer["inFlight"]) == ("agent:main:inbox", "main", 1)
    other, is_error = await use("session_status", sessionKey="agent:scout:main")
    assert (is_error, other["reason"]) == (True, "SESSION_NOT_FOUND")
