"""The agent card of a bot, in the terms of A2A 1.0."""

from dataclasses import dataclass

from mobot.registry.v1 import bot_pb2
from registry_service.domain.bot import Bot, Capability

_TEXT = "text/plain"


@dataclass(frozen=True, slots=True)
class Publisher:
    """What the installation says of itself in cards; empty parts are left out."""

    public_url: str = ""
    organization: str = ""


def to_proto_card(bot: Bot, publisher: Publisher) -> bot_pb2.AgentCard:
    settings = bot.settings
    base = publisher.public_url.rstrip("/")
    interfaces = [
        bot_pb2.AgentInterface(url=f"{base}/{bot.name}", protocol_binding="HTTP+JSON", protocol_version="1.0")
    ]
    return bot_pb2.AgentCard(
        name=settings.display_name,
        description=settings.description,
        version=bot.etag,
        supported_interfaces=interfaces if base else [],
        capabilities=bot_pb2.AgentCapabilities(streaming=True),
        skills=[_to_proto_skill(each) for each in settings.capabilities],
        default_input_modes=[_TEXT],
        default_output_modes=[_TEXT],
        provider=(
            bot_pb2.AgentProvider(organization=publisher.organization, url=publisher.public_url)
            if publisher.organization
            else None
        ),
        security_schemes=[
            bot_pb2.AgentSecurityScheme(
                name="bearer", scheme="bearer", description="A token minted by this installation."
            )
        ],
        icon_url=settings.avatar_uri,
        bot=bot.name,
    )


def _to_proto_skill(capability: Capability) -> bot_pb2.AgentSkill:
    return bot_pb2.AgentSkill(
        id=capability.id,
        name=capability.display_name or capability.id,
        description=capability.description,
        tags=capability.tags,
        examples=capability.examples,
        input_modes=capability.input_modes or (_TEXT,),
        output_modes=capability.output_modes or (_TEXT,),
    )
