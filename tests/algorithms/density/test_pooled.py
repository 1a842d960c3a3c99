"""Every figure of a spectrum covers the truth at its level, over independent seeds.

Letters: P size, d deflated pairs, n probes, k steps.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from curvtool.algorithms.density.figures import counted, functions_of
from curvtool.algorithms.density.functions import effective_dimension, schatten_norm, trace
from curvtool.algorithms.density.known import KnownSpectrum
from curvtool.algorithms.density.pooled import Extremes, PooledSpectrum
from curvtool.algorithms.density.settings import DensitySettings
from curvtool.results import FloatArray, SpectralFunction
from tests.algorithms.density.spectra import (
    DEFINITE,
    FAMILIES,
    NOTHING,
    by_magnitude,
    sent,
    too_few,
)

SEEDS = 30
NOISE = 1e-7
# Families, deflated pairs, probes and steps: every kind of spectrum once, some without deflation.
CASES = [
    ("network", 0, 4, 20),
    ("network", 10, 4, 20),
    ("uniform", 0, 4, 15),
    ("semicircle", 0, 2, 20),
    ("rank 40", 10, 4, 20),
    ("giant", 0, 4, 15),
    ("giant", 1, 4, 15),
    ("half zeros", 5, 4, 20),
    ("two levels", 0, 1, 15),
    ("signed pairs", 4, 4, 20),
    ("copies", 5, 4, 20),
    ("all equal", 0, 1, 10),
    ("rank 1", 0, 4, 10),
    ("rank 1", 1, 2, 10),
]


def truth(function: SpectralFunction, values: FloatArray) -> float:
    """Of the whole spectrum, by its eigenvalues."""
    p = function.parameter
    if function.name == "trace":
        return float(values.sum())
    assert p is not None
    if function.name == "Schatten norm":
        return float((np.abs(values) ** p).sum() ** (1 / p))
    if function.name == "effective dimension":
        return float((values / (values + p)).sum())
    assert function.name == "log-determinant"
    return float(np.log(values + p).sum())


def view_of(
    values: FloatArray, d: int, n: int, k: int, seed: int, *, noise: float = NOISE
) -> PooledSpectrum:
    """The d largest taken out exactly, n probes of k steps through the rest, products noisy."""
    values = by_magnitude(values)
    rng = np.random.default_rng([seed, d, n, k])
    probes = sent(values[d:], n, k, rng, noise=noise * float(abs(values[0])))
    extremes = Extremes(values[:d], np.zeros(d), np.zeros(d)) if d else NOTHING
    return PooledSpectrum(len(values), extremes, probes, noise=noise)


@pytest.mark.parametrize(("name", "d", "n", "k"), CASES)
def test_every_figure_is_covered(name: str, d: int, n: int, k: int) -> None:
    values = FAMILIES[name]()
    settings = DensitySettings(noise=NOISE, probes=n, schatten=(1.0, 2.0, 3.0))
    hits: dict[str, int] = {}
    for seed in range(SEEDS):
        view = view_of(values, d, n, k, seed)
        assert not (view.negative and name in DEFINITE)
        for found in functions_of(view, settings):
            assert found.interval is not None
            low, high = found.interval
            true = truth(found, values)
            key = f"{found.name} {'' if found.parameter is None else found.parameter}"
            # Sums of 300 numbers round by as many eps.
            slack = 1e-12 * max(abs(true), float(np.abs(values).sum()))
            # Damping is chosen from the largest value found: figures of one name are held together.
            key = found.name if "dimension" in key or "log" in key else key
            hits[key] = hits.get(key, 0) + (low - slack <= true <= high + slack)
        counts = counted(view, settings)
        t = counts.band
        exact = [(values < -t), np.abs(values) <= t, values > t, np.abs(values) > t]
        for side, where in enumerate(exact):
            low, high = counts.interval[side]
            hits[f"count {side}"] = hits.get(f"count {side}", 0) + (low <= where.sum() <= high)
        x = np.linspace(*view.ends, 33)
        below = view.below(x)
        true_below = (values[None] <= x[:, None] + 1e-12).sum(axis=1)
        inside = (below[:, 0] <= true_below) & (
            (values[None] <= x[:, None] - 1e-12).sum(axis=1) <= below[:, 1]
        )
        hits["cumulative"] = hits.get("cumulative", 0) + (inside.mean() >= 0.9)
    assert len(hits) >= 9
    for figure, number in hits.items():
        assert not too_few(number, SEEDS), (figure, number)


def test_deflation_narrows_what_a_few_large_values_hold() -> None:
    values = FAMILIES["giant"]()
    widths = []
    for d in (0, 1):
        view = view_of(values, d, 4, 15, 0)
        low, _, high = view.sum(schatten_norm(1.0, top=view.top))
        widths.append(high - low)
    assert widths[1] < 0.01 * widths[0]


def test_the_starts_projection_alone_would_count_what_was_taken_out_twice() -> None:
    """Interlacing sees the deflated pairs again unless every product is projected."""
    values = by_magnitude(FAMILIES["network"]())
    top = sent(values, 1, 40, np.random.default_rng(0))  # of the whole matrix
    d = 10
    extremes = Extremes(values[:d], np.zeros(d), np.zeros(d))
    wrong = PooledSpectrum(len(values), extremes, top, noise=1e-13)
    low, _, _ = wrong.sum(schatten_norm(1.0, top=1.0))
    assert low > np.abs(values).sum()  # false, and the reason for C = (I - U'U) H (I - U'U)


def test_more_steps_than_dimensions_are_not_made() -> None:
    """P = 30: beyond n steps rows are rounding, and interlacing would be false."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        values = rng.standard_normal(30)
        view = view_of(values, 0, 4, 40, int(rng.integers(10**6)))
        assert all(r.steps <= 30 for r in view.recurrences)
        counts = counted(view, DensitySettings(noise=NOISE))
        exact = [(values < -counts.band).sum(), 0, (values > counts.band).sum()]
        for side in (0, 2):
            low, high = counts.interval[side]
            assert low <= exact[side] <= high


def test_counts_in_a_threshold_that_the_user_names() -> None:
    values = FAMILIES["network"]()
    view = view_of(values, 5, 4, 20, 0)
    asked = DensitySettings(noise=NOISE, threshold=0.02)
    counts = counted(view, asked)
    assert counts.band == 0.02
    low, high = counts.interval[3]
    assert low <= (np.abs(values) > 0.02).sum() <= high
    # What lies in the noise has no sign, whatever is asked.
    raised = counted(view, DensitySettings(noise=NOISE, threshold=0.0))
    assert raised.band == view.least_level >= 6 * NOISE


def test_exact_zeros_are_not_counted_beyond_the_band() -> None:
    """A bulk at zero lies within the noise of it; the band is wide enough to tell."""
    for seed in range(10):
        values = FAMILIES["rank 40"]()
        counts = counted(view_of(values, 10, 4, 25, seed), DensitySettings(noise=NOISE))
        assert counts.interval[0, 1] == 0
        assert counts.interval[2, 1] < 80
        assert counts.interval[1, 0] > 220


def test_coupled_pairs_are_read_within_their_residuals() -> None:
    """A rough U: sums over the blocks differ from those of H by what Mirsky's theorem allows."""
    rng = np.random.default_rng(0)
    P, d = 60, 6
    values = by_magnitude(np.concatenate([2.0 ** -np.arange(8), rng.standard_normal(P - 8) * 0.02]))
    Q = np.linalg.qr(rng.standard_normal((P, P)))[0]
    H = (Q * values) @ Q.T
    for rough in (1e-4, 1e-3, 1e-2):
        U = np.linalg.qr(Q[:, :d] + rough * rng.standard_normal((P, d)))[0]
        theta, S = np.linalg.eigh(U.T @ H @ U)
        U = U @ S
        order = np.argsort(-np.abs(theta))
        theta, U = theta[order], U[:, order]
        residuals = np.linalg.norm(H @ U - U * theta, axis=0)
        rest = np.eye(P) - U @ U.T
        inner = by_magnitude(np.linalg.eigvalsh(rest @ H @ rest))[: P - d]
        probes = sent(inner, 4, P, rng)
        extremes = Extremes(theta, np.zeros(d), residuals)
        view = PooledSpectrum(P, extremes, probes, noise=1e-14)
        for wanted in (schatten_norm(1.0, top=1.0), schatten_norm(2.0, top=1.0), trace()):
            least, most = view._exact(wanted)
            # With the true rest in the place of the probes', the limits hold without chance.
            exact = float(wanted.f(inner).sum())
            assert least + exact <= wanted.f(values).sum() + 1e-12
            assert most + exact >= wanted.f(values).sum() - 1e-12
        for t in (0.01, 0.05, 0.4):
            margin = view._margins(np.array([t, -t]))
            surely = (inner > t + margin[0]).sum() + view._exact_beyond(np.array([t]), 1)[0, 0]
            perhaps = (inner > t - margin[0]).sum() + view._exact_beyond(np.array([t]), 1)[0, 1]
            assert surely <= (values > t).sum() <= perhaps


def test_a_known_spectrum_has_the_errors_of_its_values_alone() -> None:
    values = np.sort(FAMILIES["signed pairs"]())
    errors = np.full(len(values), 1e-6)
    view = KnownSpectrum(values, errors)
    assert view.negative
    for wanted in (trace(), schatten_norm(1.0, top=1.0), schatten_norm(2.0, top=1.0)):
        low, value, high = view.sum(wanted)
        assert low < value < high
        assert high - low <= 2.1 * len(values) * 1e-6 * 2
        moved = values + 1e-6 * np.random.default_rng(0).uniform(-1, 1, len(values))
        assert low <= wanted.f(moved).sum() <= high
    counts = counted(view, DensitySettings(noise=1e-9))
    assert counts.interval[0, 0] == counts.interval[0, 1] == (values < 0).sum()
    assert counts.interval[1].tolist() == [0, 0]


def test_functions_of_an_indefinite_spectrum_are_refused_where_asked_for() -> None:
    view = view_of(FAMILIES["network"](), 10, 4, 20, 0)
    unasked = {f.name for f in functions_of(view, DensitySettings(noise=NOISE))}
    assert unasked == {"trace", "Schatten norm"}
    asked = DensitySettings(noise=NOISE, damping=(0.1,))
    refused = [f for f in functions_of(view, asked) if f.value is None]
    assert {f.name for f in refused} == {"effective dimension", "log-determinant"}
    for found in refused:
        assert found.interval is None
        assert "negative eigenvalues" in found.detail


def test_a_zero_matrix_is_known_whole() -> None:
    view = PooledSpectrum(
        20, NOTHING, sent(np.zeros(20), 2, 5, np.random.default_rng(0)), noise=0.0
    )
    counts = counted(view, DensitySettings(noise=0.0))
    assert counts.interval.tolist() == [[0, 0], [20, 20], [0, 0], [0, 0]]
    for found in functions_of(view, DensitySettings(noise=0.0)):
        assert found.interval == (0.0, 0.0)


@pytest.mark.parametrize("p", [0.0, -1.0, math.inf, math.nan])
def test_senseless_parameters_are_refused(p: float) -> None:
    with pytest.raises(ValueError, match="p > 0"):
        schatten_norm(p, top=1.0)
    with pytest.raises(ValueError, match="a > 0"):
        effective_dimension(p)
