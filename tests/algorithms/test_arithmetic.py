"""Intervals hold the truth of the float64 matrix while products come from another one.

Letters: P size, B terms, m samples, E what the arithmetic adds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from curvtool.algorithms.arithmetic import (
    LOOKS,
    SHARE,
    Arithmetic,
    left_to_probes,
    norm_factor,
    trace_factor,
)
from curvtool.algorithms.diagonal import stochastic_diagonal
from curvtool.algorithms.diagonal_settings import DiagonalSettings
from curvtool.algorithms.estimation import TraceSettings
from curvtool.algorithms.exact import exact_trace
from curvtool.algorithms.exact_diagonal import dense_diagonal
from curvtool.algorithms.hutchinson import hutchinson
from curvtool.algorithms.sketched import hutch_plus_plus, xtrace
from curvtool.operators.base import FunctionOperator, NoReference
from curvtool.results import FloatArray, Outcome
from tests.algorithms.sums import DenseSum, layer_truths, random_sum, selected, thirds

P, B = 40, 4
SEEDS = range(300)
# 95 % less 3.3 standard errors of 300 seeds: a false alarm once in 2,000 figures.
LEVEL = 0.95 - 3.3 * math.sqrt(0.95 * 0.05 / len(SEEDS))
OPEN = TraceSettings(rel_err=None, max_hvps=28, noise=1e-7)
DIAGONAL = DiagonalSettings(rel_err=None, max_hvps=28, noise=1e-7, most_vectors=8)


class Noisy:
    """Products of a stored sum of terms, declared to be float32, so that float64 is the truth."""

    shift, size, dtype, device = 0.0, P, torch.float32, torch.device("cpu")

    def __init__(self, exact: Tensor, noise: Tensor) -> None:
        self.truth = exact.sum(0)
        self.terms = exact + noise
        self.num_terms = len(exact)
        self._whole = self.terms.sum(0)

    def matvec(self, v: Tensor, /) -> Tensor:
        Hv: Tensor = self._whole @ v.double()
        return Hv.float()

    def term(self, i: int, v: Tensor, /) -> Tensor:
        Hv: Tensor = self.terms[i] @ v.double()
        return Hv.float()

    @property
    def reference(self) -> FunctionOperator:
        def product(v: Tensor) -> Tensor:
            Hv: Tensor = self.truth @ v
            return Hv

        return FunctionOperator(product, P)


def _symmetric(*shape: int, seed: int) -> Tensor:
    X = torch.from_numpy(np.random.default_rng([seed, 0xA]).standard_normal((*shape, P, P)))
    symmetric: Tensor = (X + X.transpose(-1, -2)) / 2
    return symmetric


def _direction(seed: int) -> Tensor:
    u: Tensor = torch.from_numpy(np.random.default_rng(seed).standard_normal(P))
    unit: Tensor = u / u.norm()
    return unit


def _matrix(name: str) -> Tensor:
    if name == "outliers":
        return random_sum(P, B, seed=1).terms
    if name == "rank one":
        u = _direction(5) * 3
        return torch.outer(u, u).expand(B, P, P) / B
    # A diagonal has no variance under signs at all: an interval is what the arithmetic leaves.
    diagonal = torch.diag(torch.arange(1.0, P + 1).double()) + 1e-7 * _symmetric(seed=2)
    return diagonal.expand(B, P, P) / B


def _noise(name: str, exact: Tensor) -> Tensor:
    size = float(exact.sum(0).norm())
    if name == "biased":  # every product too long by the same share
        return 3e-4 * exact
    if name == "scattered":
        return 1e-5 * size * _symmetric(B, seed=3)
    # One example of the last batch on the other side of a kink.
    late = torch.zeros_like(exact)
    u = _direction(6)
    late[-1] = 1e-2 * size * torch.outer(u, u)
    return late


def _inside(ends: FloatArray, truths: FloatArray) -> list[bool]:
    return [bool(low <= truth <= high) for (low, high), truth in zip(ends, truths, strict=True)]


def _trace_hits(op: Noisy, seed: int) -> list[bool]:
    layers = thirds(P)
    asked = replace(OPEN, layers=layers, frobenius=True, seed=seed, reference=op.reference)
    found = hutchinson(op, asked)
    traces, rows = layer_truths(op.truth, layers)
    assert found.layer_interval is not None
    assert found.layer_frobenius_squared_interval is not None
    assert found.frobenius_squared_interval is not None
    wholes = np.array([found.interval, found.frobenius_squared_interval])
    both = np.array([float(op.truth.trace()), float(op.truth.square().sum())])
    return [
        *_inside(wholes, both),
        *_inside(found.layer_interval, traces),
        *_inside(found.layer_frobenius_squared_interval, rows),
    ]


def _diagonal_hits(op: Noisy, seed: int) -> list[float]:
    layers = thirds(P)
    asked = replace(DIAGONAL, layers=layers, seed=seed, reference=op.reference)
    found = stochastic_diagonal(op, asked)
    truth = op.truth.diagonal()
    error = np.abs(found.diagonal - truth.numpy())
    means = np.array([float(selected(truth, layer).mean()) for layer in layers])
    assert found.layer_mean_interval is not None
    return [
        float(np.linalg.norm(error) <= found.rel_err * float(truth.norm())),
        float((error <= found.diagonal_error).mean()),
        *_inside(found.layer_mean_interval, means),
    ]


@pytest.mark.parametrize("noise", ["biased", "scattered", "late"])
@pytest.mark.parametrize("matrix", ["outliers", "rank one", "nearly diagonal"])
def test_intervals_hold_the_truth_of_float64(matrix: str, noise: str) -> None:
    exact = _matrix(matrix)
    op = Noisy(exact, _noise(noise, exact))
    hits = np.array([[*_trace_hits(op, s), *_diagonal_hits(op, s)] for s in SEEDS[::3]])
    covered = hits.mean(axis=0)
    assert (covered >= 0.95 - 3.3 * math.sqrt(0.95 * 0.05 / len(hits))).all(), covered


def test_without_float64_the_same_interval_misses() -> None:
    """What the tests above would not see if the noise were too small to matter."""
    exact = _matrix("nearly diagonal")
    op = Noisy(exact, _noise("biased", exact))
    found = hutchinson(op, replace(OPEN, noise=1e-9))
    low, high = found.interval
    assert not low <= float(op.truth.trace()) <= high
    assert found.float64_samples == 0
    held = hutchinson(op, replace(OPEN, noise=1e-9, reference=op.reference))
    assert held.interval[0] <= float(op.truth.trace()) <= held.interval[1]
    assert held.float64_samples
    assert held.hvps_by_stage["float64"] == 2 * held.float64_samples
    # The correction is most of the bias.
    assert abs(held.trace - float(op.truth.trace())) < abs(found.trace - float(op.truth.trace()))


@pytest.mark.parametrize("method", [hutch_plus_plus, xtrace])
def test_sketches_hold_it_too(method: Callable[..., object]) -> None:
    u = _direction(5)
    exact = torch.outer(u, u)[None]  # captured at once, so that nothing but the noise is left
    op = Noisy(exact, 3e-4 * exact)
    asked = replace(OPEN, rel_err=0.01, max_hvps=40, most_vectors=20)
    hits = []
    for seed in SEEDS:
        found: Any = method(op, replace(asked, seed=seed, reference=op.reference))
        hits.append(found.interval[0] <= 1.0 <= found.interval[1])
    assert np.mean(hits) >= LEVEL


def test_the_dense_way_takes_its_products_in_float64() -> None:
    exact = _matrix("outliers")
    op = Noisy(exact, _noise("late", exact))
    layers = thirds(P)
    asked = replace(OPEN, layers=layers, frobenius=True, reference=op.reference)
    found = exact_trace(op, asked)
    traces, rows = layer_truths(op.truth, layers)
    assert found.frobenius_squared_interval is not None
    assert found.layer_interval is not None
    assert found.layer_frobenius_squared_interval is not None
    assert found.interval[0] <= float(op.truth.trace()) <= found.interval[1]
    low, high = found.frobenius_squared_interval
    assert low <= float(op.truth.square().sum()) <= high
    assert all(_inside(found.layer_interval, traces))
    assert all(_inside(found.layer_frobenius_squared_interval, rows))
    # Two pairs say how float32 rounds, 1e-2 here; float64 by 2^-29 less, 32 times for certainty.
    assert found.hvps == P + 4
    width = found.interval[1] - found.interval[0]
    assert 0 < width < 2 * 32 * 2e-2 * 2**-29 * float(op.truth.norm(dim=1).sum())
    diagonal = dense_diagonal(op, replace(DIAGONAL, layers=layers, reference=op.reference))
    error = np.abs(diagonal.diagonal - op.truth.diagonal().numpy())
    assert (error <= diagonal.diagonal_error).all()
    assert np.linalg.norm(error) <= diagonal.rel_err * float(op.truth.diagonal().norm())


def test_what_float32_cannot_reach_is_said() -> None:
    exact = _matrix("nearly diagonal")
    op = Noisy(exact, _noise("late", exact))
    asked = replace(OPEN, rel_err=1e-6, max_hvps=2000, reference=op.reference)
    found = hutchinson(op, asked)
    assert found.outcome is Outcome.FLOOR
    assert "float32" in found.reason
    assert "--dtype float64" in found.reason
    assert found.float64_samples == LOOKS[-1]
    assert found.interval[0] <= float(op.truth.trace()) <= found.interval[1]
    diagonal = stochastic_diagonal(
        op, replace(DIAGONAL, rel_err=1e-6, max_hvps=2000, reference=op.reference)
    )
    assert diagonal.outcome is Outcome.FLOOR
    assert "float32" in diagonal.reason


def test_a_reference_that_does_not_fit_leaves_what_is_known() -> None:
    def none(_: Tensor) -> Tensor:
        raise NoReference("memory ran out")

    exact = _matrix("outliers")
    op = Noisy(exact, torch.zeros_like(exact))
    gone = FunctionOperator(none, P)
    asked = replace(OPEN, confidence=0.9999, reference=gone)
    for found in (hutchinson(op, asked), exact_trace(op, asked)):
        assert found.float64_samples == 0
        assert found.interval[0] <= float(op.truth.trace()) <= found.interval[1]


def test_in_float64_another_order_of_sums_is_no_truth() -> None:
    """It corrects nothing; ten times its distance is what products may be off."""
    op = DenseSum(_matrix("outliers"))
    other = FunctionOperator(lambda v: op.matrix @ v * (1 + 1e-10), P)
    found = hutchinson(op, replace(OPEN, noise=1e-14, reference=other))
    assert found.correction == 0
    assert math.isclose(found.noise, 1e-9, rel_tol=1e-5)
    assert found.arithmetic >= 1e-9 * abs(found.trace)


@pytest.mark.parametrize("samples", LOOKS)
def test_factors_are_exact_for_rank_one(samples: int) -> None:
    miss = 2e-4
    law = scipy.stats.chi2(samples)
    # P(f rms |Ez| < |E|) for E = u u' is P(s^2 < 1 / f^2).
    assert math.isclose(law.cdf(samples / norm_factor(samples, miss) ** 2), miss, rel_tol=1e-9)
    c = trace_factor(samples, miss)
    s = np.sqrt(law.rvs(400_000, random_state=samples) / samples)
    missed = int((np.abs(s**2 - 1) > c * s).sum())
    # Poisson with mean 80: 5 standard deviations.
    assert abs(missed - 80) < 45


@pytest.mark.parametrize("samples", LOOKS)
def test_no_other_spectrum_is_worse(samples: int) -> None:
    """Weights of one sign and of both, few and many: at 5 %, so that each tail is seen."""
    rng = np.random.default_rng(samples)
    c = trace_factor(samples, 0.05)
    families = [np.ones(r) for r in (1, 2, 3, 10)]
    families += [np.concatenate([np.ones(r), -np.ones(q)]) for r in (1, 3) for q in (1, 2, 10)]
    families += [np.concatenate([[1.0], np.full(30, small)]) for small in (0.03, 0.3, -0.03, -0.3)]
    for weights in families:
        n = 200_000 // (samples * len(weights)) + 2000
        squares = rng.standard_normal((n, samples, len(weights))) ** 2
        apart = (squares @ weights).mean(1) - weights.sum()
        size = np.sqrt((squares @ weights**2).mean(1))
        missed = float((np.abs(apart) > c * size).mean())
        assert missed <= 0.05 + 5 * math.sqrt(0.05 * 0.95 / n)


def test_the_probabilities_add_up() -> None:
    for confidence in (0.5, 0.95, 0.999):
        whole = (1 - left_to_probes(confidence)) + len(LOOKS) * Arithmetic.miss(confidence)
        assert math.isclose(whole, 1 - confidence, rel_tol=1e-9)
        assert len(LOOKS) * Arithmetic.miss(confidence) <= SHARE
