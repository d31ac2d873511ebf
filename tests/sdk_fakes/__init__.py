"""Small, real servicers that keep the contracts' promises in memory, for tests of who calls them."""
