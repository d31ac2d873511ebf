"""The memory: what bots remember across sessions and restarts, and how it is found again.

It owns memories, blocks and their histories, each bot's in a namespace of its own. It does not own sessions or bots,
asks no other service, and lets nobody but a bot itself, operators and services see what the bot remembers.
"""
