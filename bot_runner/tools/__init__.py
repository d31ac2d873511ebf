"""The tools that every brain has."""
