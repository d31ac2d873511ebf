"""`mobot topics`: names that many sessions listen to."""

import uuid
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, help="Names that many sessions listen to.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
TopicArgument = Annotated[str, typer.Argument(help="The topic, e.g. news.")]
SubscriberArgument = Annotated[str, typer.Argument(help="A session (BOT/SESSION), or a bot: its main session.")]


@app.command("list")
def list_topics(
    subscriber: Annotated[str, typer.Option(help="Only those this session or bot listens to.")] = "",
    as_json: AsJson = False,
) -> None:
    """All topics."""
    from mobot.router.v1 import message_pb2, router_service_pb2
    from mobot_cli import addresses, printing, services

    async def command(mobot: services.Services) -> None:
        request = router_service_pb2.ListTopicsRequest(
            page_size=1000, subscriber=addresses.mail_name(subscriber) if subscriber else ""
        )
        found: list[message_pb2.Topic] = []
        while True:
            page = await mobot.router.ListTopics(request)
            found.extend(page.topics)
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        if as_json:
            printing.print_json([printing.as_json(topic) for topic in found])
            return
        printing.print_table(
            ["TOPIC", "LISTENERS", "AGE", "DESCRIPTION"],
            [
                [
                    topic.name.removeprefix("topics/"),
                    str(topic.subscriber_count),
                    printing.age(topic.create_time),
                    printing.clean(topic.description, limit=80),
                ]
                for topic in found
            ],
            empty="No topics yet: mobot topics create news",
        )

    services.run(command)


@app.command()
def create(topic: TopicArgument, description: Annotated[str, typer.Option(help="What it is for.")] = "") -> None:
    """Create a topic."""
    from mobot.router.v1 import message_pb2, router_service_pb2
    from mobot_cli import printing, services

    async def command(mobot: services.Services) -> None:
        request = router_service_pb2.CreateTopicRequest(
            topic_id=topic, topic=message_pb2.Topic(description=description)
        )
        made = (await mobot.router.CreateTopic(request)).topic
        printing.print_line(f"Created {made.name}. Listen: mobot topics subscribe {topic} BOT")

    services.run(command)


@app.command()
def delete(topic: TopicArgument) -> None:
    """Remove a topic and its subscriptions."""
    from mobot.router.v1 import router_service_pb2
    from mobot_cli import printing, services

    async def command(mobot: services.Services) -> None:
        await mobot.router.DeleteTopic(router_service_pb2.DeleteTopicRequest(name=f"topics/{topic}"))
        printing.print_line(f"Removed topics/{topic}")

    services.run(command)


@app.command()
def subscribe(topic: TopicArgument, subscriber: SubscriberArgument) -> None:
    """Have a session or bot get what is published."""
    from mobot.router.v1 import router_service_pb2
    from mobot_cli import addresses, printing, services

    async def command(mobot: services.Services) -> None:
        request = router_service_pb2.SubscribeTopicRequest(
            topic=f"topics/{topic}", subscriber=addresses.mail_name(subscriber)
        )
        created = (await mobot.router.SubscribeTopic(request)).created
        printing.print_line(f"{subscriber} {'listens' if created else 'listened already'} to {topic}")

    services.run(command)


@app.command()
def unsubscribe(topic: TopicArgument, subscriber: SubscriberArgument) -> None:
    """Take a session or bot out again."""
    from mobot.router.v1 import router_service_pb2
    from mobot_cli import addresses, printing, services

    async def command(mobot: services.Services) -> None:
        request = router_service_pb2.UnsubscribeTopicRequest(
            topic=f"topics/{topic}", subscriber=addresses.mail_name(subscriber)
        )
        removed = (await mobot.router.UnsubscribeTopic(request)).removed
        printing.print_line(f"{subscriber} {'listens no more' if removed else 'did not listen'} to {topic}")

    services.run(command)


@app.command()
def publish(
    topic: TopicArgument,
    message: Annotated[str, typer.Argument(help="The text; - reads it from standard input.")],
    key: Annotated[str, typer.Option(help="Idempotency key: the same key never publishes twice.")] = "",
    as_json: AsJson = False,
) -> None:
    """Put a message into the mailbox of everyone who listens."""
    from mobot.router.v1 import message_pb2, router_service_pb2
    from mobot.session.v1 import part_pb2
    from mobot_cli import printing, services, texts

    text = texts.text_of(message, "message")

    async def command(mobot: services.Services) -> None:
        draft = message_pb2.MessageDraft(
            topic=f"topics/{topic}",
            parts=[part_pb2.Part(text=text)],
            idempotency_key=key or str(uuid.uuid4()),
            user_input=True,
        )
        receipt = (await mobot.router.PublishTopic(router_service_pb2.PublishTopicRequest(message=draft))).receipt
        if as_json:
            printing.print_json(printing.as_json(receipt))
        else:
            again = " (published before)" if receipt.duplicate else ""
            printing.print_line(f"Published to {receipt.fan_out_count}{again}: {receipt.run}")

    services.run(command)
