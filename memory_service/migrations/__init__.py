"""The memory's schema, one revision after another."""
