"""Spectral sums of a large symmetric matrix from a few deflated Lanczos probes, as intervals."""
