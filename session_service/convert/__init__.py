"""Between the contract's messages and the domain. Pure functions; they refuse what breaks a rule of the contract."""
