"""For which bots a worker may act."""

import pytest

from chassis import errors
from chassis.delegation import Delegation
from chassis.identity import Caller, mint_token, principal_of


class Registry:
    def __init__(self, **served):
        self.served = {f"workers/{worker}": [f"bots/{bot}" for bot in bots] for worker, bots in served.items()}
        self.asked = 0
        self.down = False

    async def __call__(self, worker):
        self.asked += 1
        if self.down:
            raise errors.Unavailable("down")
        return self.served.get(worker)


class Time:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def time():
    return Time()


def made(registry, time):
    return Delegation(registry, ttl_s=5, monotonic=time)


async def test_a_worker_acts_for_the_bots_that_it_serves_alone(time):
    delegation = made(Registry(w1=["main"], w2=["other"]), time)
    await delegation.check(Caller("workers/w1", root=False, actor="bots/main"))
    for worker, bot in (("w1", "other"), ("w2", "main")):
        with pytest.raises(errors.PermissionDenied):
            await delegation.check(Caller(f"workers/{worker}", root=False, actor=f"bots/{bot}"))


async def test_what_the_registry_says_is_remembered_for_a_while(time):
    registry = Registry(w1=["main"])
    delegation = made(registry, time)
    for _ in range(3):
        assert await delegation.serves("workers/w1", "bots/main")
    assert registry.asked == 1
    registry.served["workers/w1"] = []
    time.now += 5
    assert not await delegation.serves("workers/w1", "bots/main")


async def test_a_bot_that_is_new_to_the_worker_is_asked_for_at_once(time):
    registry = Registry(w1=["main"])
    delegation = made(registry, time)
    assert not await delegation.serves("workers/w1", "bots/new")
    registry.served["workers/w1"].append("bots/new")
    assert await delegation.serves("workers/w1", "bots/new")


async def test_what_the_registry_said_last_holds_while_it_does_not_answer(time):
    registry = Registry(w1=["main"])
    delegation = made(registry, time)
    assert await delegation.serves("workers/w1", "bots/main")
    registry.down = True
    time.now += 60
    assert await delegation.serves("workers/w1", "bots/main")
    with pytest.raises(errors.Unavailable):
        await delegation.serves("workers/w1", "bots/other")


async def test_a_worker_without_a_lease_is_told_to_come_again(time):
    registry = Registry(w1=["main"])
    delegation = made(registry, time)
    assert await delegation.serves("workers/w1", "bots/main")
    del registry.served["workers/w1"]
    time.now += 60
    with pytest.raises(errors.Unavailable) as told:
        await delegation.serves("workers/w1", "bots/main")
    assert told.value.retry_after_s == 1.0


def test_a_token_says_whom_it_is_for():
    assert principal_of(mint_token("secret", "workers/w1")) == "workers/w1"
    assert [principal_of(token) for token in ("secret", "mb1.?", "mb1.", "")] == [""] * 4
