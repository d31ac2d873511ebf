"""Indexes in memory, one for each namespace that was searched lately. They are copies: the database has everything."""
