"""A process that hosts the bots configured in the registry, on top of bot_sdk."""
