"""Laws of the pooled share: exact ones against their own distribution, others by coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta

from curvtool.algorithms.density.ends import MISS, spectrum_ends
from curvtool.algorithms.density.limits import count_limits, mean_limits, share_limits
from curvtool.results import FloatArray
from tests.algorithms.density.spectra import FAMILIES, sent, too_few


@pytest.mark.parametrize("dimension", [40, 2_000, 10**9])
@pytest.mark.parametrize("probes", [1, 4, 30])
def test_limits_of_a_count_invert_its_exact_law(dimension: int, probes: int) -> None:
    """At the limits the tail is alpha / 2 or more, one beyond it is less."""
    for m in (1, 7, dimension // 3, dimension - 2):
        law = beta(probes * m / 2, probes * (dimension - m) / 2)
        for s in law.ppf([0.001, 0.3, 0.98]):
            low, high = (int(x) for x in count_limits(s, s, dimension, probes, alpha=0.05))
            assert low - 1 <= dimension * s <= high + 1
            if low > 1:
                tail = beta(probes * (low - 1) / 2, probes * (dimension - low + 1) / 2).sf(s)
                # A root is met to 1e-12 of a count, a count to 1e-6.
                assert tail < 0.025 * (1 + 1e-4) or low - 1 >= dimension * s - 1
            if high < dimension - 1:
                tail = beta(probes * (high + 1) / 2, probes * (dimension - high - 1) / 2).cdf(s)
                assert tail < 0.025 * (1 + 1e-4)


def test_counts_are_covered_at_their_level() -> None:
    """Exactly 95 % or, since counts are whole, more: 1,000 draws of the share itself."""
    rng = np.random.default_rng(0)
    for dimension, m, n in ((400, 1, 4), (400, 60, 4), (2000, 1000, 10), (30, 29, 4)):
        S = rng.beta(n * m / 2, n * (dimension - m) / 2, 1000)
        low, high = count_limits(S, S, dimension, n, alpha=0.05)
        hits = int(((low <= m) & (m <= high)).sum())
        assert not too_few(hits, 1000)
        assert hits < 1000  # limits that never fail would say nothing


def test_a_share_of_nothing_and_of_all_is_known() -> None:
    assert count_limits(0.0, 0.0, 100, 4, alpha=0.05)[1] == 0
    assert count_limits(1.0, 1.0, 100, 4, alpha=0.05)[0] == 100
    low, high = share_limits(np.array([0.0, 0.2]), np.array([1.0, 0.3]), 200.0, alpha=0.05)
    assert (low[0], high[0]) == (0.0, 1.0)
    assert 0 < low[1] < 0.2 < 0.3 < high[1] < 1


def test_wider_brackets_and_levels_give_wider_limits() -> None:
    for signed, a in ((False, 0.0), (True, -1.0)):
        one = mean_limits(0.1, 0.1, 0.03, (a, 1.0), 400.0, signed=signed, alpha=0.05)
        two = mean_limits(0.08, 0.12, 0.03, (a, 1.0), 400.0, signed=signed, alpha=0.05)
        surer = mean_limits(0.1, 0.1, 0.03, (a, 1.0), 400.0, signed=signed, alpha=0.01)
        for other in (two, surer):
            assert other[0] < one[0] < 0.1 < one[1] < other[1]


def _shares(f: FloatArray, n: int, draws: int, seed: int) -> tuple[FloatArray, FloatArray]:
    """Pooled shares of f and of f^2 under n Gaussian probes, many times."""
    rng = np.random.default_rng(seed)
    squares = rng.chisquare(n, (draws, len(f)))
    total = squares.sum(axis=1)
    return squares @ f / total, squares @ f**2 / total


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("n", [1, 4])
def test_means_are_covered(name: str, n: int) -> None:
    """400 draws for each spectrum; |x| and x, without any error of a quadrature."""
    values = FAMILIES[name]()
    values = values / np.abs(values).max()
    for f, signed in ((np.abs(values), False), (values, True), (values**2, False)):
        S, V = _shares(f, n, 400, seed=n)
        ends = (float(f.min()), float(f.max())) if signed else (0.0, float(f.max()))
        low, high = mean_limits(S, S, V, ends, n * len(f) / 2, signed=signed, alpha=0.05)
        hits = int(((low - 1e-12 <= f.mean()) & (f.mean() <= high + 1e-12)).sum())
        assert not too_few(hits, 400), hits


@pytest.mark.parametrize("name", FAMILIES)
def test_ends_hold_the_spectrum(name: str) -> None:
    values = FAMILIES[name]()
    top = float(np.abs(values).max())
    misses = 0
    for seed in range(60):
        probes = sent(values, 2, 8, np.random.default_rng(seed))
        low, high = spectrum_ends(
            [p.recurrence for p in probes],
            np.array([p.square for p in probes]),
            noise=1e-13 * top,
        )
        misses += not low <= values.min() <= values.max() <= high
        assert high - low <= 40 * top  # and say something
    # Of 60 with a probability of 2 MISS each, 3 or more happen once in 4,000.
    assert misses <= 2
    assert MISS == 1e-3


def test_a_limit_that_a_ritz_value_contradicts_does_not_count() -> None:
    probes = sent(FAMILIES["uniform"](), 2, 8, np.random.default_rng(0))
    recurrences = [p.recurrence for p in probes]
    squares = np.array([p.square for p in probes])
    free = spectrum_ends(recurrences, squares, noise=0.0)
    assert spectrum_ends(recurrences, squares, noise=0.0, limit=0.5)[1] == free[1]
    assert spectrum_ends(recurrences, squares, noise=0.0, limit=1.0)[1] == min(free[1], 1.0)
