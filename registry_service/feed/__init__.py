"""What lives between calls: the end of the log in memory, watchers, heartbeat streams, and what time brings."""
