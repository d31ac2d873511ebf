"""What the router decides, without databases, sockets or time of its own."""
