"""What produces a bot's answers."""
