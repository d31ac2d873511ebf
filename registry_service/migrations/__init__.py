"""The registry's schema, one revision after another."""
