import pytest

from mobot.registry.v1 import bot_pb2, registry_service_pb2
from mobot_cli.demo import make_demo_bots


class Registry:
    """Keeps bots by name, tombstones too, and replays a request id."""

    def __init__(self, *names):
        self.names = [f"bots/{name}" for name in names]
        self.created = {}

    async def ListBots(self, request):
        assert request.filter.show_deleted
        return registry_service_pb2.ListBotsResponse(bots=[bot_pb2.Bot(name=name) for name in self.names])

    async def CreateBot(self, request):
        assert request.request_id
        if request.request_id not in self.created:
            self.created[request.request_id] = request
            self.names.append(f"bots/{request.bot_id}")
        return registry_service_pb2.CreateBotResponse()


async def test_an_empty_registry_gets_mo_and_scout():
    registry = Registry()
    await make_demo_bots(registry)
    made = [(request.bot_id, request.bot.display_name) for request in registry.created.values()]
    assert made == [("main", "Mo"), ("scout", "Scout")]
    assert {request.bot.brain.WhichOneof("settings") for request in registry.created.values()} == {"echo"}


async def test_a_start_that_died_between_the_two_is_completed():
    registry = Registry("main")
    await make_demo_bots(registry)
    assert [request.bot_id for request in registry.created.values()] == ["scout"]


async def test_the_same_bots_are_asked_for_under_the_same_request_ids():
    one, two = Registry(), Registry()
    await make_demo_bots(one)
    await make_demo_bots(two)
    assert one.created.keys() == two.created.keys()


@pytest.mark.parametrize("names", [("ann",), ("main", "ann"), ("main", "scout")])
async def test_a_registry_that_somebody_uses_is_left_alone(names):
    registry = Registry(*names)
    await make_demo_bots(registry)
    assert not registry.created
