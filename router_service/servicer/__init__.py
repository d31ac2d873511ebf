"""The router's calls."""
