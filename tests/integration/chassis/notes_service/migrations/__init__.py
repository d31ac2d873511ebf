"""The schema of the notes."""
