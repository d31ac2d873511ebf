"""Loads of other systems. Each module runs in the environment of its system, not in ours, and prints one JSON line."""
