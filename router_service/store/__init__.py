"""All SQL of the router."""
