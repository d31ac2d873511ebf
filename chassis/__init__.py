"""The shared runtime of every process; it knows no domain."""
