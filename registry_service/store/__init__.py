"""The registry's transactions: takes and returns domain objects, and logs each change in the change's own commit."""
