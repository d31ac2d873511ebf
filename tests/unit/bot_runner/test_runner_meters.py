"""What a runner counts: its turns, its tools, its models."""

from prometheus_client import CollectorRegistry
from sdk_fakes.model_endpoint import Answer

from bot_sdk.meters import OTHER, TurnMeters
from mobot.registry.v1 import bot_pb2

SESSION = "bots/main/sessions/inbox"
ECHO = bot_pb2.Brain(echo=bot_pb2.EchoBrain())


async def test_turns_are_counted_by_how_they_ended(world, hosting, counted):
    world.registry.add_bot("main", brain=ECHO)
    async with hosting():
        for text, state in (("hello", "SUCCEEDED"), ("retry", "SUCCEEDED"), ("fail", "FAILED")):
            await world.router.wait(await world.router.send(SESSION, text), state, timeout_s=40)
    assert counted("bot_turns_total", outcome="succeeded") == 2
    assert counted("bot_turns_total", outcome="retryable") == 1
    assert counted("bot_turns_total", outcome="failed") == 1
    assert counted("bot_turn_failures_total", reason="ECHO_RETRIED") == 1
    assert counted("bot_turn_failures_total", reason="ECHO_FAILED") == 1
    assert counted("bot_turn_seconds_count") == 4


async def test_a_turn_that_is_stopped_is_no_failure(world, hosting, counted):
    world.registry.add_bot("main", brain=ECHO)
    async with hosting(echo_word_delay_s=60.0):
        run = await world.router.send(SESSION, "two words")
        await world.router.wait_until(lambda: world.session.text(run))
        await world.router.cancel(run)
        await world.router.wait(run, "CANCELLED", timeout_s=40)
    assert counted("bot_turns_total", outcome="cancelled") == 1
    assert counted("bot_turns_total", outcome="failed") == 0


async def test_tool_calls_are_counted_with_their_outcome_and_time(world, hosting, counted):
    world.registry.add_bot("main", brain=ECHO)
    async with hosting():
        for text in ("remember the sky is blue", "send nosuch: hello"):
            await world.router.wait(await world.router.send(SESSION, text), "SUCCEEDED", timeout_s=40)
    assert counted("bot_tool_calls_total", tool="memory_save", outcome="ok") == 1
    assert counted("bot_tool_calls_total", tool="sessions_send", outcome="error") == 1
    assert counted("bot_tool_seconds_total", tool="memory_save") > 0


def openai(endpoint, **settings):
    return bot_pb2.Brain(openai=bot_pb2.OpenaiBrain(base_url=endpoint.base_url, model="m", max_retries=0, **settings))


async def test_every_round_of_a_model_is_counted_with_its_tokens(world, endpoint, hosting, counted):
    world.registry.add_bot("main", brain=openai(endpoint))
    endpoint.answers = [Answer(calls=[("c1", "agents_list", {})]), Answer(words=["done"])]
    async with hosting():
        await world.router.wait(await world.router.send(SESSION, "who is there?"), "SUCCEEDED", timeout_s=40)
    assert counted("bot_model_requests_total", outcome="ok") == 2
    assert counted("bot_model_seconds_count") == 2
    assert counted("bot_model_tokens_total", kind="input") == 22
    assert counted("bot_model_tokens_total", kind="output") == 14


async def test_a_model_that_fails_is_counted_by_why(world, endpoint, hosting, counted):
    world.registry.add_bot("main", brain=openai(endpoint))
    endpoint.answers = [Answer(status=401)]
    async with hosting():
        await world.router.wait(await world.router.send(SESSION, "hi"), "FAILED", timeout_s=40)
    assert counted("bot_model_requests_total", outcome="MODEL_UNAUTHORIZED") == 1
    assert counted("bot_turn_failures_total", reason="MODEL_UNAUTHORIZED") == 1


def test_names_that_handlers_make_up_cannot_make_endless_series():
    registry = CollectorRegistry()
    meters = TurnMeters(registry)
    for number in range(1_000):
        meters.turn_ended("failed", 0.1, reason=f"REASON_{number}")
        meters.tool_called(f"tool_{number}", "ok", 0.1)
    families = {family.name: family for family in registry.collect()}
    assert len(families["bot_turn_failures"].samples) < 200
    assert len(families["bot_tool_calls"].samples) < 200
    assert registry.get_sample_value("bot_turn_failures_total", {"reason": OTHER}) == 936
