"""Share links: who has the token reads, until it is revoked or expires, and sees what was said and nothing else."""

from datetime import timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from session_world import World, append_to, create, finished, message, name, pb, refusal, started

from mobot.session.v1 import session_pb2


@pytest.fixture
async def world(database_url, tmp_path):
    running = World(database_url, data_dir=tmp_path)
    await running.start()
    yield running
    await running.stop()


async def share(stub, session: str, *, request_id: str = "", **fields) -> session_pb2.ShareLink:
    link = session_pb2.ShareLink(**fields)
    request = pb.CreateShareLinkRequest(parent=name(session), share_link=link, request_id=request_id)
    return (await stub.CreateShareLink(request)).share_link


async def read(stub, token: str, **fields) -> pb.GetSharedSessionResponse:
    return await stub.GetSharedSession(pb.GetSharedSessionRequest(token=token, **fields))


def said(shared: pb.GetSharedSessionResponse) -> list[str]:
    return [event.message.parts[0].text for event in shared.events]


async def test_the_token_shows_what_was_said_and_nothing_of_what_is_behind(world):
    stub = world.stub()
    await create(stub, "a", label="Plan", overrides={"secret": "x"}, tags=["private"])
    inbound = message("1", "hello", run="r", source="operators/root", metadata={"k": "v"}, idempotency_key="i")
    await append_to(stub, name("a"), inbound, started("r"), finished("r"))
    link = await share(stub, "a")
    shared = await read(stub, link.token)
    assert shared.session == session_pb2.Session(
        label="Plan",
        create_time=shared.session.create_time,
        last_activity_time=shared.session.last_activity_time,
        message_count=1,
    )
    (event,) = shared.events
    assert said(shared) == ["hello"]
    assert (event.id, event.actor, event.run, event.session, event.session_uid) == ("", "", "", "", "")
    assert (event.message.source, event.message.idempotency_key, dict(event.message.metadata)) == ("", "", {})


async def test_later_messages_are_shared_too_unless_the_link_ends_at_one(world):
    stub = world.stub()
    await create(stub, "a")
    await append_to(stub, name("a"), message("1", "one"))
    everything, one = await share(stub, "a"), await share(stub, "a", through_sequence=2)
    await append_to(stub, name("a"), message("2", "two"))
    assert said(await read(stub, everything.token)) == ["one", "two"]
    assert said(await read(stub, one.token)) == ["one"]


async def test_only_the_transcript_of_the_moment_is_shared(world):
    stub = world.stub()
    await create(stub, "a")
    await append_to(stub, name("a"), message("1", "before"))
    await stub.ResetSession(pb.ResetSessionRequest(name=name("a")))
    await append_to(stub, name("a"), message("2", "shared"))
    link = await share(stub, "a")
    await stub.ResetSession(pb.ResetSessionRequest(name=name("a")))
    await append_to(stub, name("a"), message("3", "after"))
    assert said(await read(stub, link.token)) == ["shared"]


async def test_a_link_that_is_revoked_expired_or_unknown_is_not_found(world):
    stub = world.stub()
    await create(stub, "a")
    soon = Timestamp()
    soon.FromDatetime(world.clock.now() + timedelta(hours=1))
    revoked, expiring = await share(stub, "a"), await share(stub, "a", expire_time=soon)
    await read(stub, expiring.token)
    first = (await stub.RevokeShareLink(pb.RevokeShareLinkRequest(name=revoked.name))).share_link
    world.clock.advance(timedelta(hours=2))
    again = (await stub.RevokeShareLink(pb.RevokeShareLinkRequest(name=revoked.name))).share_link
    assert first.revoke_time == again.revoke_time
    for token in (revoked.token, expiring.token, "unknown", "x" * 10_000):
        assert (await refusal(read(stub, token))).reason == "SHARE_LINK_NOT_FOUND"
    missing = pb.RevokeShareLinkRequest(name=f"{name('a')}/shareLinks/unknown")
    assert (await refusal(stub.RevokeShareLink(missing))).reason == "SHARE_LINK_NOT_FOUND"


async def test_a_deleted_session_is_not_shared_and_a_purged_one_leaves_no_link(world):
    stub = world.stub()
    session = await create(stub, "a")
    link = await share(stub, "a")
    await stub.DeleteSession(pb.DeleteSessionRequest(name=name("a")))
    assert (await refusal(read(stub, link.token))).reason == "SHARE_LINK_NOT_FOUND"
    await stub.UndeleteSession(pb.UndeleteSessionRequest(name=name("a")))
    await read(stub, link.token)
    await stub.DeleteSession(pb.DeleteSessionRequest(name=name("a")))
    await stub.PurgeSession(pb.PurgeSessionRequest(name=name("a"), expected_uid=session.uid))
    await create(stub, "a")
    assert (await refusal(read(stub, link.token))).reason == "SHARE_LINK_NOT_FOUND"


async def test_links_are_listed_without_their_tokens_in_pages(world):
    stub = world.stub()
    await create(stub, "a")
    made = [(await share(stub, "a")).name for _ in range(5)]
    seen: list[str] = []
    token = ""
    while True:
        request = pb.ListShareLinksRequest(parent=name("a"), page_size=2, page_token=token)
        page = await stub.ListShareLinks(request)
        assert all(link.token == "" for link in page.share_links)
        seen += [link.name for link in page.share_links]
        token = page.next_page_token
        if not token:
            break
    assert seen == made
    await create(stub, "b")
    page = await stub.ListShareLinks(pb.ListShareLinksRequest(parent=name("a"), page_size=2))
    other = pb.ListShareLinksRequest(parent=name("b"), page_token=page.next_page_token)
    assert (await refusal(stub.ListShareLinks(other))).reason == "PAGE_TOKEN_INVALID"


async def test_shared_pages_and_repeated_requests(world):
    stub = world.stub()
    await create(stub, "a")
    await append_to(stub, name("a"), *(message(str(number), str(number)) for number in range(5)))
    link = await share(stub, "a", request_id="once")
    assert await share(stub, "a", request_id="once") == link
    seen: list[str] = []
    token = ""
    while True:
        page = await read(stub, link.token, page_size=2, page_token=token)
        seen += said(page)
        token = page.next_page_token
        if not token:
            break
    assert seen == ["0", "1", "2", "3", "4"]
    other = await share(stub, "a")
    first = await read(stub, link.token, page_size=2)
    assert (await refusal(read(stub, other.token, page_token=first.next_page_token))).reason == "PAGE_TOKEN_INVALID"


async def test_wrong_links(world):
    stub = world.stub()
    await create(stub, "a")
    await append_to(stub, name("a"), message("1"))
    past = Timestamp(seconds=1)
    for fields in ({"through_sequence": 99}, {"through_sequence": -1}, {"expire_time": past}):
        assert (await refusal(share(stub, "a", **fields))).reason == "FIELD_INVALID"
    assert (await refusal(share(stub, "nosuch"))).reason == "SESSION_NOT_FOUND"
    assert (await refusal(share(world.stub("bots/helper"), "a"))).reason == "SESSION_NOT_FOUND"
    assert (await refusal(read(stub, ""))).reason == "FIELD_INVALID"
    malformed = pb.RevokeShareLinkRequest(name="shareLinks/x")
    assert (await refusal(stub.RevokeShareLink(malformed))).reason == "FIELD_INVALID"
