"""The registry: which bots exist, what they are like, which workers serve them, and whether they are alive.

It owns bots, workers and their leases. It does not own sessions, mail or memories, gives out no work, and forgets a bot
only because somebody deleted it, never because it was silent.
"""
