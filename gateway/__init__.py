"""The edge: speaks the OpenClaw gateway protocol over WebSocket and turns it into calls on the four services.

It holds sockets and subscriptions, no rules and no data: any number of gateways may run side by side, and one may
die at any moment without losing anything.
"""
