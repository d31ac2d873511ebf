"""The schema's chain."""
