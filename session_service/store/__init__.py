"""The store: the one place with SQL. Takes and returns domain objects; events and state change in one transaction."""
