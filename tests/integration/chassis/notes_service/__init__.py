"""A smallest service, for the tests of the chassis: notes with a sequence in each book."""
