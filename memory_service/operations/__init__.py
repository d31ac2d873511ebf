"""Long works on a bot's memory, done in the background a bounded piece at a time."""
