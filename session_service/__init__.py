"""The session service owns named conversations: their fields, their append-only event logs, and the watching of both.

It does not know what waits in a mailbox (the router does), which bots exist (the registry does), or what an event's
text means to a model (the bots do).
"""
