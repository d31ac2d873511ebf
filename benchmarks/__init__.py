"""Benchmarks: ours and the peers', in one interleaved run: ratios, medians, CPU per operation."""
