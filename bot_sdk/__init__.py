"""The library to write a bot with: a worker that attaches to mobot, and turns that read, stream, remember and reply."""
