"""A turn as a client hears it."""


async def test_a_message_is_acknowledged_streamed_and_ended_once(edge):
    async with edge.client() as client:
        await client.call("sessions.subscribe")
        ack = await client.call(
            "chat.send", {"sessionKey": "agent:main:a", "message": "hi", "idempotencyKey": "run-1"}
        )
        final = await client.final("run-1")

    assert ack == {"runId": "run-1", "status": "started"}
    assert final["state"] == "final"
    assert final["message"]["content"] == [{"type": "text", "text": "Hello from the bot."}]
    deltas = client.events("chat", state="delta")
    assert "".join(delta["deltaText"] for delta in deltas) == "Hello from the bot."
    assert deltas[-1]["message"]["content"][0]["text"] == "Hello from the bot."
