"""What random vectors are drawn for: all of it in one table, so that no two uses share numbers."""

from __future__ import annotations

import enum
from typing import final


@final
@enum.unique
class Purpose(enum.Enum):
    """A use of random numbers; what its index counts stands beside it.

    The text is part of the key that the numbers are drawn with: a change of one gives all vectors
    of that purpose other numbers, which needs a new `streams.FORMAT`.
    """

    # Lanczos's first vector, and those that go on where its space has closed. Index: draws.
    SOLVE_START = "start of a solve"
    # The proof of completeness holds because these numbers depend on nothing that the solve used:
    # not on its start, nor on another probe, nor on a run that was resumed. Index: probes.
    COMPLETENESS = "probe for completeness"
    # What a probe's products may be off, held against float64. Index: vectors.
    ELSEWHERE = "noise elsewhere"
    # Combinations of listed vectors that are multiplied to certify all. Index: combinations.
    CERTIFICATE = "combinations for a certificate"
    # Vectors whose products are held against a dense matrix. Index: vectors.
    DENSE_CHECK = "check of a dense matrix"
    # Power iteration. Index: pairs found before.
    POWER_START = "start of power iteration"
    # Power iteration's Lanczos steps that say which end is dominant. Index: none.
    POWER_EDGES = "edges for power iteration"
    # ARPACK's first vector. Index: columns.
    EXTERNAL_START = "start of an external solver"
    # LOBPCG's first block. Index: columns.
    LOBPCG_BLOCK = "block of lobpcg"
    # The short Lanczos whose Ritz vectors are taken out of a trace. Index: none.
    DEFLATION_START = "start of a deflation"
    # Hutchinson's probes. Index: pass, and term of it.
    TRACE_PER_TERM = "trace probe of a term"
    TRACE_SHARED = "trace probe of all terms"
    # Probes of a diagonal. Index: pass, and term of it.
    DIAGONAL_PER_TERM = "diagonal probe of a term"
    DIAGONAL_SHARED = "diagonal probe of all terms"
    # The first direction of a diagonal's Krylov space, where no pass has made one. Index: none.
    DIAGONAL_START = "start of a diagonal's directions"
    # Vectors whose products are held against float64, for what the arithmetic adds to traces and
    # norms: Gaussian, and drawn for nothing else. Index: samples.
    ARITHMETIC = "comparison with float64"
    # Stochastic Lanczos quadrature, for densities. Index: probes.
    QUADRATURE = "quadrature probe"
    # Hutch++ and XTrace: what spans the range, and what samples the rest. Index: probes.
    SKETCH = "sketch"
    SKETCH_SAMPLE = "sample beside a sketch"
    # Test vectors of the checks before a solve. Index: vectors.
    PREFLIGHT = "preflight"
    # What is only timed. Index: none.
    TIMING = "timing"
