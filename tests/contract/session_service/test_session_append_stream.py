"""Append: batches over one stream, within the credit that the service gives."""

import grpc.aio
import pytest
from session_world import append, create, message, name, pb

from chassis.status import from_rpc_error


async def open_stream(stub):
    call = stub.Append()
    first = await call.read()
    assert (first.first_number, list(first.outcomes)) == (0, [])
    return call, first.credit


async def ended_with(call):
    try:
        while await call.read() is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error)
    raise AssertionError("the stream ended well")


def frame(first_number, *appends):
    return pb.AppendRequest(first_number=first_number, appends=appends)


@pytest.mark.parametrize("actor", [None, "services/router", "bots/main"])
async def test_frames_are_answered_in_order_and_give_their_credit_back(world, stub, actor):
    await create(stub, "a")
    call, credit = await open_stream(world.stub(actor))
    assert credit >= 2_000
    for number in range(20):
        first = 2 * number + 1
        await call.write(frame(first, *(append(name("a"), message(f"m{first + of}")) for of in range(2))))
    await call.done_writing()
    sequences = []
    for number in range(20):
        answer = await call.read()
        assert (answer.first_number, answer.credit) == (2 * number + 1, 2)
        sequences += [sequence for outcome in answer.outcomes for sequence in outcome.sequences]
    assert await call.read() is grpc.aio.EOF
    assert sequences == list(range(2, 42))


async def test_a_refused_append_does_not_hinder_the_others_and_a_repeated_one_is_known(stub):
    await create(stub, "a")
    call, _ = await open_stream(stub)
    appends = [append(name("a"), message("m1")), append(name("none"), message("m1")), append(name("a"), message("m2"))]
    await call.write(frame(1, *appends))
    first = await call.read()
    assert [outcome.refusal.reason for outcome in first.outcomes] == ["", "SESSION_NOT_FOUND", ""]
    await call.write(frame(4, *appends))
    again = await call.read()
    assert [list(outcome.duplicates) for outcome in again.outcomes] == [[True], [], [True]]
    assert [list(outcome.sequences) for outcome in again.outcomes] == [[2], [], [3]]
    call.cancel()


async def test_a_wrong_number_and_an_empty_frame_end_the_stream(stub):
    await create(stub, "a")
    for wrong in (frame(2, append(name("a"), message("m1"))), frame(1)):
        call, _ = await open_stream(stub)
        await call.write(wrong)
        error = await ended_with(call)
        assert (error.code, error.reason) == ("INVALID_ARGUMENT", "FIELD_INVALID")


async def test_more_than_the_credit_is_refused(stub):
    await create(stub, "a")
    call, credit = await open_stream(stub)
    await call.write(frame(1, *(append(name("a"), message(f"m{number}")) for number in range(credit + 1))))
    error = await ended_with(call)
    assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "QUEUE_FULL")


async def test_what_was_taken_is_appended_when_the_caller_goes_away(world, stub):
    await create(stub, "a")
    call, _ = await open_stream(world.stub("services/router"))
    await call.write(frame(1, append(name("a"), message("m1"))))
    await call.read()
    await call.write(frame(2, append(name("a"), message("m2"))))
    call.cancel()
    # Whether the second frame was taken is left to chance; whatever is there is whole.
    page = await stub.ListEvents(pb.ListEventsRequest(parent=name("a")))
    assert [event.id for event in page.events][1:] in (["m1"], ["m1", "m2"])


async def test_the_stream_ends_when_the_service_stops(world, stub):
    await create(stub, "a")
    call, _ = await open_stream(world.stub("services/router"))
    await world.service.end_watches()
    error = await ended_with(call)
    assert (error.code, error.reason) == ("UNAVAILABLE", "DRAINING")
