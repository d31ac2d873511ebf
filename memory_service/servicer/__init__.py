"""The memory's calls: each converts in, asks the store, and converts out."""
