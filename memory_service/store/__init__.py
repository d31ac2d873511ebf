"""Transactions on the memory's tables; takes and returns domain objects."""
