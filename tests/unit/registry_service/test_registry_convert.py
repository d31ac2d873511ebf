"""Field rules of the registry's messages, one table a message, and how masks, cards and tokens are made."""

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from chassis.clock import FakeClock
from chassis.errors import InvalidArgument
from mobot.registry.v1 import bot_pb2, registry_service_pb2, worker_pb2
from registry_service.convert.bots import from_proto_filter, from_proto_settings
from registry_service.convert.masks import merged, writable_paths
from registry_service.convert.requests import (
    from_proto_drain,
    from_proto_new_bot,
    from_proto_order,
    from_proto_reason,
    from_proto_registration,
    from_proto_suspension,
    to_ticket,
)
from registry_service.convert.tokens import Tokens
from registry_service.convert.watches import from_proto_watch
from registry_service.convert.workers import from_proto_report, from_proto_worker_filter
from registry_service.domain.brain import OpenaiBrain
from registry_service.domain.errors import WatchTokenInvalid
from registry_service.domain.selection import BotFilter

pb = registry_service_pb2
ECHO = bot_pb2.Brain(echo=bot_pb2.EchoBrain())
BIG = Struct(fields={"x": {"string_value": "x" * 17_000}})
NAN = Struct(fields={"x": {"number_value": float("nan")}})


def bot(**fields: Any) -> bot_pb2.Bot:
    return bot_pb2.Bot(**{"brain": ECHO, **fields})


def openai(**fields: Any) -> bot_pb2.Bot:
    return bot(brain={"openai": {"base_url": "https://a.example/v1", "model": "m", **fields}})


def openclaw(**fields: Any) -> bot_pb2.Bot:
    return bot(brain={"openclaw": {"url": "wss://a.example/ws", **fields}})


def skill(**fields: Any) -> bot_pb2.Bot:
    return bot(capabilities=[{"id": "x", **fields}])


def settings_of(message: bot_pb2.Bot) -> Any:
    return from_proto_settings("bot", message, bot_id="main", owner="operators/root", system_labels={})


def registered(worker: worker_pb2.Worker, **fields: Any) -> Any:
    request = pb.RegisterWorkerRequest(worker_id="w", worker=worker, **fields)
    return from_proto_registration(
        request, new_id="made", lease_s=15, max_lease_s=60, registrant="operators/root", trusted=True
    )


def worker(**fields: Any) -> worker_pb2.Worker:
    return worker_pb2.Worker(**{"contract_major_version": 1, **fields})


def violation_of(act: Any) -> str:
    """The field that the call refuses."""
    with pytest.raises(InvalidArgument) as caught:
        act()
    assert caught.value.reason in ("FIELD_INVALID", "RESOURCE_NAME_INVALID")
    assert caught.value.metadata["field"] == caught.value.violations[0].field
    return caught.value.metadata["field"]


BAD_BOTS = [
    (bot_pb2.Bot(), "bot.brain"),
    (bot_pb2.Bot(brain=bot_pb2.Brain()), "bot.brain"),
    (bot(display_name="x" * 129), "bot.display_name"),
    (bot(display_name="a\nb"), "bot.display_name"),
    (bot(display_name="a\u202eb"), "bot.display_name"),
    (bot(concurrency=1_001), "bot.concurrency"),
    (bot(concurrency=-1), "bot.concurrency"),
    (bot(instructions="ü" * 32_769), "bot.instructions"),
    (bot(instructions="a\0b"), "bot.instructions"),
    (bot(labels={"Bad": "x"}), "bot.labels"),
    (bot(labels={"": "x"}), "bot.labels"),
    (bot(labels={"a" * 64: "x"}), "bot.labels"),
    (bot(labels={"a": "x" * 129}), "bot.labels.a"),
    (bot(labels={f"k{number}": "" for number in range(65)}), "bot.labels"),
    (bot(labels={"mobot.set": "demo"}), "bot.labels.mobot.set"),
    (bot(description="x" * 2_049), "bot.description"),
    (bot(emoji="x" * 17), "bot.emoji"),
    (bot(avatar_uri="http://a.example/x.png"), "bot.avatar_uri"),
    (bot(avatar_uri="javascript:alert(1)"), "bot.avatar_uri"),
    (bot(avatar_uri="https:" + "x" * 65_536), "bot.avatar_uri"),
    (bot(owner="nobody"), "bot.owner"),
    (bot(owner="bots/"), "bot.owner"),
    (bot(tools=["x"] * 2), "bot.tools"),
    (bot(tools=[""]), "bot.tools[0]"),
    (bot(tools=["x" * 65]), "bot.tools[0]"),
    (bot(tools=[f"t{number}" for number in range(129)]), "bot.tools"),
    (bot(memory={"recall_budget_tokens": -1}), "bot.memory.recall_budget_tokens"),
    (bot(memory={"recall_budget_tokens": 100_001}), "bot.memory.recall_budget_tokens"),
    (bot(metadata=BIG), "bot.metadata"),
    (bot(metadata=NAN), "bot.metadata"),
    (skill(id="Bad"), "bot.capabilities[0].id"),
    (skill(id=""), "bot.capabilities[0].id"),
    (skill(display_name="x" * 129), "bot.capabilities[0].display_name"),
    (skill(description="x" * 2_049), "bot.capabilities[0].description"),
    (skill(tags=["t"] * 33), "bot.capabilities[0].tags"),
    (skill(tags=["x" * 65]), "bot.capabilities[0].tags[0]"),
    (skill(examples=["x"] * 17), "bot.capabilities[0].examples"),
    (skill(examples=["x" * 513]), "bot.capabilities[0].examples[0]"),
    (skill(input_modes=["x"] * 33), "bot.capabilities[0].input_modes"),
    (bot(capabilities=[{"id": "a"}, {"id": "a"}]), "bot.capabilities.id"),
    (bot(capabilities=[{"id": f"a{number}"} for number in range(65)]), "bot.capabilities"),
    (bot(brain={"echo": {"word_delay": Duration(seconds=61)}}), "bot.brain.echo.word_delay"),
    (bot(brain={"echo": {"word_delay": Duration(seconds=-1)}}), "bot.brain.echo.word_delay"),
    (openai(base_url=""), "bot.brain.openai.base_url"),
    (openai(base_url="ftp://a.example"), "bot.brain.openai.base_url"),
    (openai(base_url="https://"), "bot.brain.openai.base_url"),
    (openai(base_url="https://[bad"), "bot.brain.openai.base_url"),
    (openai(base_url="https://a.example:99999"), "bot.brain.openai.base_url"),
    (openai(base_url="https://user:secret@a.example"), "bot.brain.openai.base_url"),
    (openai(base_url="https://a.example/" + "x" * 2_048), "bot.brain.openai.base_url"),
    (openai(model=""), "bot.brain.openai.model"),
    (openai(model="x" * 257), "bot.brain.openai.model"),
    (openai(api_key_env="sk-secret"), "bot.brain.openai.api_key_env"),
    (openai(temperature=2.1), "bot.brain.openai.temperature"),
    (openai(temperature=float("nan")), "bot.brain.openai.temperature"),
    (openai(top_p=0.0), "bot.brain.openai.top_p"),
    (openai(top_p=1.1), "bot.brain.openai.top_p"),
    (openai(max_output_tokens=1_000_001), "bot.brain.openai.max_output_tokens"),
    (openai(max_output_tokens=-1), "bot.brain.openai.max_output_tokens"),
    (openai(timeout=Duration(nanos=1)), "bot.brain.openai.timeout"),
    (openai(timeout=Duration(seconds=3_601)), "bot.brain.openai.timeout"),
    (openai(context_window_tokens=1_023), "bot.brain.openai.context_window_tokens"),
    (openai(max_tool_rounds=1_001), "bot.brain.openai.max_tool_rounds"),
    (openai(reasoning_effort="x" * 33), "bot.brain.openai.reasoning_effort"),
    (openai(max_retries=11), "bot.brain.openai.max_retries"),
    (openai(max_retries=-1), "bot.brain.openai.max_retries"),
    (bot(brain={"worker": {"model": "x" * 257}}), "bot.brain.worker.model"),
    (bot(brain={"worker": {"worker_labels": {"BAD": ""}}}), "bot.brain.worker.worker_labels"),
    (
        bot(brain={"worker": {"worker_labels": {f"k{number}": "" for number in range(17)}}}),
        "bot.brain.worker.worker_labels",
    ),
    (bot(brain={"worker": {"settings": BIG}}), "bot.brain.worker.settings"),
    (openclaw(url="https://a.example"), "bot.brain.openclaw.url"),
    (openclaw(url="ws://u@a.example"), "bot.brain.openclaw.url"),
    (openclaw(token_env="lower"), "bot.brain.openclaw.token_env"),
    (openclaw(agent_id="x" * 65), "bot.brain.openclaw.agent_id"),
    (openclaw(timeout=Duration()), "bot.brain.openclaw.timeout"),
    (openclaw(model="x" * 257), "bot.brain.openclaw.model"),
]


@pytest.mark.parametrize(("message", "field"), BAD_BOTS, ids=[f"{n}-{field}" for n, (_, field) in enumerate(BAD_BOTS)])
def test_a_bot_that_breaks_a_rule_is_refused_by_field(message, field):
    assert violation_of(lambda: settings_of(message)) == field


def test_a_bot_at_its_limits_is_taken():
    message = openai(temperature=2.0, top_p=1.0, max_retries=10, context_window_tokens=1_024)
    message.MergeFrom(
        bot_pb2.Bot(
            display_name="x" * 128,
            concurrency=1_000,
            instructions="x" * 65_536,
            labels={"a" * 63: "x" * 128, "a/b.c_d-e": ""},
            emoji="👩‍🚀",
            avatar_uri="data:image/png;base64,AAAA",
            tools=[f"t{number}" for number in range(128)],
            capabilities=[{"id": f"a.{number}"} for number in range(64)],
        )
    )
    settings = settings_of(message)
    assert isinstance(settings.brain, OpenaiBrain)
    assert settings.concurrency == 1_000


def test_a_refused_address_or_key_is_not_repeated_in_the_message():
    for message in (openai(base_url="https://user:hunter2@a.example"), openai(api_key_env="hunter2")):
        with pytest.raises(InvalidArgument) as caught:
            settings_of(message)
        assert "hunter2" not in caught.value.message + str(dict(caught.value.metadata))


@pytest.mark.parametrize(
    ("request_message", "field"),
    [
        (pb.CreateBotRequest(bot=bot()), "bot_id"),
        (pb.CreateBotRequest(bot_id="../x", bot=bot()), "bot_id"),
        (pb.CreateBotRequest(bot_id="Main", bot=bot()), "bot_id"),
        (pb.CreateBotRequest(bot_id="mаin", bot=bot()), "bot_id"),  # noqa: RUF001 - the second letter is Cyrillic
        (pb.CreateBotRequest(bot_id="a\nb", bot=bot()), "bot_id"),
        (pb.CreateBotRequest(bot_id="a" * 65, bot=bot()), "bot_id"),
        (pb.CreateBotRequest(bot_id="main"), "bot"),
    ],
)
def test_a_create_request_that_breaks_a_rule_is_refused_by_field(request_message, field):
    assert violation_of(lambda: from_proto_new_bot(request_message, owner="operators/root")) == field


@pytest.mark.parametrize(
    ("selected", "field"),
    [
        (bot_pb2.BotFilter(labels={"BAD": ""}), "filter.labels"),
        (bot_pb2.BotFilter(labels={f"k{number}": "" for number in range(17)}), "filter.labels"),
        (bot_pb2.BotFilter(states=[99]), "filter.states"),
        (bot_pb2.BotFilter(states=[0]), "filter.states"),
        (bot_pb2.BotFilter(brains=[0]), "filter.brains"),
        (bot_pb2.BotFilter(bots=["main"]), "filter.bots[0]"),
        (bot_pb2.BotFilter(bots=["bots/a"] * 1_001), "filter.bots"),
        (bot_pb2.BotFilter(text="x" * 257), "filter.text"),
        (bot_pb2.BotFilter(capability="x" * 65), "filter.capability"),
    ],
)
def test_a_filter_that_breaks_a_rule_is_refused_by_field(selected, field):
    assert violation_of(lambda: from_proto_filter("filter", selected)) == field


@pytest.mark.parametrize(
    ("message", "fields", "field"),
    [
        (worker(capacity=-1), {}, "worker.capacity"),
        (worker(capacity=100_001), {}, "worker.capacity"),
        (worker(contract_major_version=0), {}, "worker.contract_major_version"),
        (worker(contract_minor_version=-1), {}, "worker.contract_minor_version"),
        (worker(host="x" * 256), {}, "worker.host"),
        (worker(process_id=-1), {}, "worker.process_id"),
        (worker(software_version="x" * 129), {}, "worker.software_version"),
        (worker(labels={"BAD": ""}), {}, "worker.labels"),
        (worker(display_name="x" * 129), {}, "worker.display_name"),
        (worker(bots=["bots/a", "bots/a"]), {}, "worker.bots"),
        (worker(bots=["a"]), {}, "worker.bots[0]"),
        (worker(bots=[f"bots/b{number}" for number in range(1_001)]), {}, "worker.bots"),
        (worker(), {"lease_duration": Duration(nanos=5)}, "lease_duration"),
        (worker(), {"lease_duration": Duration(seconds=3_601)}, "lease_duration"),
        (worker(), {"worker_id": "a..b"}, "worker_id"),
    ],
)
def test_a_registration_that_breaks_a_rule_is_refused_by_field(message, fields, field):
    request = pb.RegisterWorkerRequest(**{"worker_id": "w", "worker": message, **fields})
    make = {"new_id": "n", "lease_s": 15, "max_lease_s": 60, "registrant": "operators/root", "trusted": True}
    assert violation_of(lambda: from_proto_registration(request, **make)) == field


def test_a_lease_wish_is_bent_to_what_the_installation_allows():
    assert registered(worker()).lease_s == 15
    assert registered(worker(), lease_duration=Duration(seconds=20)).lease_s == 20
    assert registered(worker(), lease_duration=Duration(seconds=600)).lease_s == 60


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"worker": "w"}, "r.worker"),
        ({"sequence": -1}, "r.sequence"),
        ({"in_flight_count": -1}, "r.in_flight_count"),
        ({"bots": [{"bot": "x"}]}, "r.bots[0].bot"),
        ({"bots": [{"bot": "bots/a", "in_flight_count": -1}]}, "r.bots[0].in_flight_count"),
        ({"bots": [{"bot": "bots/a", "detail": "x" * 513}]}, "r.bots[0].detail"),
        ({"bots": [{"bot": "bots/a"}] * 1_001}, "r.bots"),
        ({"served_bots": {"bots": ["bots/a", "bots/a"]}}, "r.served_bots.bots"),
    ],
)
def test_a_report_that_breaks_a_rule_is_refused_by_field(fields, field):
    message = worker_pb2.WorkerReport(**{"worker": "workers/w", **fields})
    assert violation_of(lambda: from_proto_report("r", message)) == field


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"window": -1}, "window"),
        ({"window": 100_001}, "window"),
        ({"max_batch_size": 1_001}, "max_batch_size"),
        ({"checkpoint_interval": Duration()}, "checkpoint_interval"),
        ({"checkpoint_interval": Duration(seconds=601)}, "checkpoint_interval"),
        ({"checkpoint_interval": Duration(seconds=10**18)}, "checkpoint_interval"),
        ({"filter": {"states": [77]}}, "filter.states"),
    ],
)
def test_a_watch_that_breaks_a_rule_is_refused_by_field(fields, field):
    assert violation_of(lambda: from_proto_watch(pb.WatchBotsRequest(**fields), Tokens(b"s", "log"))) == field


@pytest.mark.parametrize(
    ("act", "field"),
    [
        (lambda: from_proto_drain(pb.DeleteBotRequest(drain_timeout=Duration(seconds=86_401))), "drain_timeout"),
        (lambda: from_proto_drain(pb.DeleteBotRequest(retention=Duration(seconds=-1))), "retention"),
        (lambda: from_proto_reason("x" * 513), "reason"),
        (lambda: from_proto_order("nonsense"), "order_by"),
        (lambda: from_proto_order("name sideways"), "order_by"),
        (lambda: from_proto_worker_filter("main", [], {}), "bot"),
        (lambda: from_proto_worker_filter("", [9], {}), "states"),
        (lambda: from_proto_worker_filter("", [], {"BAD": ""}), "labels"),
        (lambda: to_ticket(pb.EnableBotRequest(), "x" * 129, "p", lambda _: pb.EnableBotResponse()), "request_id"),
        (
            lambda: from_proto_suspension(
                pb.SuspendBotRequest(resume_time=Timestamp(seconds=10**15)), FakeClock().now()
            ),
            "resume_time",
        ),
    ],
)
def test_other_fields_that_break_a_rule_are_refused(act, field):
    assert violation_of(act) == field


def test_a_mask_names_fields_and_leaves_out_what_only_the_registry_writes():
    given = bot_pb2.Bot(name="bots/a", description="x", enabled=False, etag="W1", labels={"a": "b"})
    assert list(writable_paths(given, None)) == ["labels", "description"]
    assert list(writable_paths(given, FieldMask(paths=["etag", "status.state", "emoji"]))) == ["emoji"]
    assert "brain" in writable_paths(given, FieldMask(paths=["*"]))


def test_a_merge_switches_the_kind_of_brain_when_a_path_leads_into_another():
    stored = bot(brain={"openai": {"base_url": "https://a.example", "model": "m"}})
    given = bot(brain={"openclaw": {"url": "wss://b.example"}})
    assert merged(stored, given, ["brain.openclaw.url"]).brain == given.brain


def test_a_merge_clears_what_is_left_out():
    stored = bot(memory={"recall": True, "recall_budget_tokens": 5}, metadata={"fields": {}}, tools=["a"])
    result = merged(stored, bot_pb2.Bot(), ["memory.recall", "metadata", "tools"])
    assert result.memory == bot_pb2.MemorySettings(recall_budget_tokens=5)
    assert not result.HasField("metadata")
    assert not result.tools


def test_resume_tokens_belong_to_one_log_and_one_secret():
    tokens = Tokens(b"secret", "log")
    token = tokens.resume(42)
    assert tokens.position(token) == 42
    for other in (Tokens(b"other", "log"), Tokens(b"secret", "other")):
        with pytest.raises(WatchTokenInvalid):
            other.position(token)


def test_page_tokens_belong_to_one_query_whatever_the_page_size():
    tokens = Tokens(b"secret", "log")
    token = tokens.next_page(pb.ListBotsRequest(page_size=2, order_by="name"), 7, ("a", "a"))
    assert tokens.page(pb.ListBotsRequest(page_size=9, order_by="name"), token) == (7, ("a", "a"))
    with pytest.raises(InvalidArgument):
        tokens.page(pb.ListBotsRequest(), token)


def test_an_empty_filter_is_the_default_one():
    assert from_proto_filter("filter", bot_pb2.BotFilter()) == BotFilter()
