"""Finding by meaning: queries embedded, hits reranked, and vectors made for memories in the background."""
