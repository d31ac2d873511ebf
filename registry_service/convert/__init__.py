"""Between the contract's messages and the domain: pure functions that refuse what the contract's comments forbid."""
