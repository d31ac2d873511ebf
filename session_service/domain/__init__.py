"""The rules of sessions and their logs. Pure: no clock, no I/O, nothing of gRPC or SQL. Times are microseconds, UTC."""
