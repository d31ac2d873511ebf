"""Between the contracts and the domain, in both directions."""
