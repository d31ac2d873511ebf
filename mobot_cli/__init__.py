"""The `mobot` command: the supervisor, the core process, and the commands to look and steer."""
