"""The feed: hands committed events to watchers, and pieces of answers while they are being written.

It holds no truth. A watcher that falls behind reads the log, and finds there what the feed did not keep for it.
"""
