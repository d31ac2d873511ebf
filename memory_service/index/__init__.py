"""Indexes in memory, one for each namespace that was searched lately. They are copies: the database has everything."""

import os

# Searches run beside one another, in threads of their own: more threads for each product would wait for one another.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
