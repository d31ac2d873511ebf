"""What bots and workers are and the rules they follow. Pure and synchronous: no clock, no I/O, no protobuf."""
