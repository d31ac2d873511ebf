"""Other systems under the same load and the same faults, as far as they can be struck by them."""
