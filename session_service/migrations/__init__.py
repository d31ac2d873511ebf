"""The chain of schemas of the session service."""
