"""One table for each request that changes something: what breaks a rule is refused by field, and changes nothing."""

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from registry_world import World, echo, pb, refused

from mobot.registry.v1 import bot_pb2, worker_pb2

BAD_NAMES = [
    "",
    "main",
    "bots/",
    "bots/../x",
    "bots/Main",
    "bots/a/b",
    "bots/m\u0430in",
    "bots/a\n",
    "bots/" + "x" * 65,
]
BAD_WORKERS = ["", "w", "workers/", "workers/..", "workers/a b", "workers/" + "x" * 129]
LONG_ID = "x" * 129
NUL_ID = "a\0b"


def bot(**fields):
    return bot_pb2.Bot(name="bots/main", **fields)


def named(kind, field="name", names=BAD_NAMES, **fields):
    return [(kind(**{field: name}, **fields), field) for name in names]


def repeated(kind, **fields):
    return [(kind(request_id=request_id, **fields), "request_id") for request_id in (LONG_ID, NUL_ID)]


MAIN = {"name": "bots/main"}
REQUESTS = {
    "CreateBot": [
        *repeated(pb.CreateBotRequest, bot_id="new", bot=echo()),
        (pb.CreateBotRequest(bot_id="new", bot=bot_pb2.Bot()), "bot.brain"),
        (pb.CreateBotRequest(bot_id="new", bot=echo(display_name="x" * 129)), "bot.display_name"),
        (pb.CreateBotRequest(bot_id="", bot=echo()), "bot_id"),
        (pb.CreateBotRequest(bot_id="new"), "bot"),
    ],
    "UpdateBot": [
        *((pb.UpdateBotRequest(bot=bot_pb2.Bot(name=name)), "bot.name") for name in BAD_NAMES),
        *repeated(pb.UpdateBotRequest, bot=bot(description="new")),
        (pb.UpdateBotRequest(bot=bot(concurrency=1_001)), "bot.concurrency"),
        (pb.UpdateBotRequest(bot=bot(labels={"mobot.set": "x"})), "bot.labels.mobot.set"),
        (pb.UpdateBotRequest(bot=bot(), update_mask=FieldMask(paths=["no_such_field"])), "update_mask"),
    ],
    "DeleteBot": [
        *named(pb.DeleteBotRequest),
        *repeated(pb.DeleteBotRequest, **MAIN),
        (pb.DeleteBotRequest(**MAIN, drain_timeout=Duration(seconds=-1)), "drain_timeout"),
        (pb.DeleteBotRequest(**MAIN, drain_timeout=Duration(seconds=86_401)), "drain_timeout"),
        (pb.DeleteBotRequest(**MAIN, retention=Duration(seconds=3_651 * 86_400)), "retention"),
    ],
    "UndeleteBot": [*named(pb.UndeleteBotRequest), *repeated(pb.UndeleteBotRequest, **MAIN)],
    "EnableBot": [*named(pb.EnableBotRequest), *repeated(pb.EnableBotRequest, **MAIN)],
    "DisableBot": [
        *named(pb.DisableBotRequest),
        *repeated(pb.DisableBotRequest, **MAIN),
        (pb.DisableBotRequest(**MAIN, reason="x" * 513), "reason"),
        (pb.DisableBotRequest(**MAIN, reason="\0"), "reason"),
    ],
    "SuspendBot": [
        *named(pb.SuspendBotRequest),
        *repeated(pb.SuspendBotRequest, **MAIN),
        (pb.SuspendBotRequest(**MAIN, reason="x" * 513), "reason"),
        (pb.SuspendBotRequest(**MAIN, resume_time=Timestamp(seconds=1)), "resume_time"),
        (pb.SuspendBotRequest(**MAIN, resume_time=Timestamp(seconds=10**15)), "resume_time"),
    ],
    "RegisterWorker": [
        *repeated(pb.RegisterWorkerRequest, worker_id="w", worker=worker_pb2.Worker(contract_major_version=1)),
        (pb.RegisterWorkerRequest(worker_id="a..b", worker=worker_pb2.Worker(contract_major_version=1)), "worker_id"),
        (pb.RegisterWorkerRequest(worker_id="w"), "worker"),
        (
            pb.RegisterWorkerRequest(worker_id="w", worker=worker_pb2.Worker(contract_major_version=1, capacity=-1)),
            "worker.capacity",
        ),
    ],
    "DrainWorker": [
        *named(pb.DrainWorkerRequest, names=BAD_WORKERS),
        *repeated(pb.DrainWorkerRequest, name="workers/w"),
        (pb.DrainWorkerRequest(name="workers/w", reason="x" * 513), "reason"),
        (pb.DrainWorkerRequest(name="workers/w", drain_timeout=Duration(seconds=86_401)), "drain_timeout"),
    ],
}


@pytest.mark.parametrize("method", REQUESTS)
async def test_a_request_that_breaks_a_rule_is_refused_by_field(world: World, method):
    before = await world.create("main")
    for request, field in REQUESTS[method]:
        error = await refused(getattr(world.stub, method)(request))
        assert (error.code, error.metadata.get("field")) == ("INVALID_ARGUMENT", field), request
        assert error.violations[0].field == field, request
    assert await world.get("main") == before
    assert await world.names() == ["main"]


async def test_a_set_that_breaks_a_rule_is_refused_by_field(world: World):
    for request in (
        pb.ApplyBotsRequest(set_name="Bad Name", bots=[bot(brain=echo().brain)]),
        pb.ApplyBotsRequest(set_name="demo", bots=[bot(brain=echo().brain, concurrency=-1)]),
        pb.ApplyBotsRequest(set_name="demo", bots=[bot_pb2.Bot(name="bots/..", brain=echo().brain)]),
        pb.ApplyBotsRequest(set_name="demo", bots=[bot(brain=echo().brain)] * 2),
        pb.ApplyBotsRequest(set_name="demo", bots=[bot(brain=echo().brain)], request_id=LONG_ID),
    ):
        error = await refused(world.stub.ApplyBots(request))
        assert error.code == "INVALID_ARGUMENT", request
        assert error.metadata["field"], request
    assert await world.names() == []
