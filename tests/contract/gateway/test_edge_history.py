"""The transcript as clients read it: pages, sizes, and what is not there."""

A = "agent:main:a"


async def send(client, text="hi", run="run-1", **more):
    return await client.call("chat.send", {"sessionKey": A, "message": text, "idempotencyKey": run, **more})


async def test_history_is_paged_from_its_end_and_continued_by_cursor(edge):
    async with edge.client() as client:
        for number in range(5):
            await send(client, f"m{number}", run=f"k{number}")
            await client.final(f"k{number}")
        newest = await client.call("chat.history", {"sessionKey": A, "limit": 4})
        older = await client.call("chat.history", {"sessionKey": A, "limit": 4, "offset": newest["nextOffset"]})
        oldest = await client.call("chat.history", {"sessionKey": A, "limit": 4, "offset": older["nextOffset"]})
        await send(client, "new", run="k9")
        await client.final("k9")
        delta = await client.call("chat.history", {"sessionKey": A, "cursor": newest["deltaCursor"]})
        stale = await client.call("chat.history", {"sessionKey": A, "cursor": "other:1"})
        broken = await client.call("chat.history", {"sessionKey": A, "cursor": "?"})

    assert [(page["hasMore"], len(page["messages"])) for page in (newest, older, oldest)] == [
        (True, 4), (True, 4), (False, 2),
    ]  # fmt: skip
    assert newest["totalMessages"] == 10
    assert [m["content"] for m in oldest["messages"] + older["messages"] + newest["messages"] if m["role"] == "user"] \
        == [f"m{n}" for n in range(5)]  # fmt: skip
    assert delta["kind"] == "delta"
    assert [item["message"]["role"] for item in delta["messages"]] == ["user", "assistant"]
    assert delta["messages"][1]["messageId"] == "run/k9/reply", "items are shaped like session.message"
    assert stale == broken == {"kind": "reset"}


async def test_history_keeps_to_the_size_asked_for(edge):
    async with edge.client() as client:
        for number in range(3):
            await send(client, "x" * 1000, run=f"k{number}")
            await client.final(f"k{number}")
        small = await client.call("chat.history", {"sessionKey": A, "maxBytes": 2500})
        short = await client.call("chat.history", {"sessionKey": A, "maxChars": 10})

    assert 1 <= len(small["messages"]) < 6
    assert small["hasMore"] is True
    assert short["messages"][0]["content"].startswith("x" * 10 + "\n")


async def test_a_session_that_does_not_exist_has_an_empty_history(edge):
    async with edge.client() as client:
        history = await client.call("chat.history", {"sessionKey": "agent:main:nope"})

    assert (history["messages"], history["hasMore"], history["totalMessages"]) == ([], False, 0)
