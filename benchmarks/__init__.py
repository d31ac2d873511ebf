"""Benchmarks: ours and the peers', in one interleaved run; ratios, medians and CPU per operation, never absolute times alone."""
