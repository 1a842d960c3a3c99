"""Do intervals hold the truth as often as they say? 400 seeds chosen beforehand, 0 to 399.

The sequential stop rule is included: a run ends where its own interval is narrow enough, and so
more often where it came out narrow by luck.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import numpy as np
import pytest
import torch
from torch import Tensor

from curvtool.algorithms.diagonal import stochastic_diagonal
from curvtool.algorithms.diagonal_settings import DiagonalSettings
from curvtool.algorithms.estimation import TraceSettings
from curvtool.algorithms.hutchinson import hutchinson
from curvtool.algorithms.intervals import student_quantile, summarized, widening
from curvtool.operators.hessian import HessianOperator
from curvtool.results import FloatArray
from tests.algorithms.sums import DenseSum, layer_truths, random_sum, thirds
from tests.objectives import CASES

SEEDS = range(400)
NOISE = 1e-14


def _of_network(name: str, batch_size: int) -> DenseSum:
    """The stored terms of a network's Hessian."""
    operator = HessianOperator(CASES[name].objective(batch_size=batch_size))
    eye = torch.eye(operator.size, dtype=torch.float64)
    terms = [torch.stack([operator.term(i, e) for e in eye]) for i in range(operator.num_terms)]
    stacked = torch.stack(terms)
    return DenseSum((stacked + stacked.transpose(1, 2)) / 2, operator.shift)


@lru_cache
def _matrix(name: str) -> DenseSum:
    if name == "outliers":
        return random_sum(24, 6, seed=1, shift=0.01)
    if name == "one batch":
        return random_sum(24, 1, seed=4)
    return _of_network(name, 4)


def _within(ends: Iterable[float] | None, truth: float) -> bool:
    assert ends is not None
    low, high = ends
    return bool(low <= truth <= high)


def _trace_hits(op: DenseSum, rel_err: float, seed: int) -> list[bool]:
    """Trace, layers, |H|_F^2 and the layers' row blocks, from one run that stopped by itself."""
    layers = thirds(op.size)
    found = hutchinson(
        op,
        TraceSettings(
            rel_err=rel_err, layers=layers, frobenius=True, seed=seed, noise=NOISE, max_hvps=2000
        ),
    )
    traces, rows = layer_truths(op.matrix, layers)
    assert found.layer_interval is not None
    assert found.layer_frobenius_squared_interval is not None
    return [
        _within(found.interval, float(op.matrix.trace())),
        *(_within(ends, t) for ends, t in zip(found.layer_interval, traces, strict=True)),
        _within(found.frobenius_squared_interval, float(op.matrix.square().sum())),
        *(
            _within(ends, t)
            for ends, t in zip(found.layer_frobenius_squared_interval, rows, strict=True)
        ),
    ]


def _diagonal_hits(op: DenseSum, seed: int) -> float:
    """Share of the entries that lie inside."""
    found = stochastic_diagonal(op, DiagonalSettings(rel_err=0.5, seed=seed, noise=NOISE))
    apart = np.abs(found.diagonal - op.matrix.diagonal().numpy())
    return float((apart <= found.diagonal_error).mean())


@pytest.mark.parametrize(
    ("name", "rel_err"), [("outliers", 0.2), ("one batch", 0.3), ("weight-decay", 0.3)]
)
def test_intervals_hold_the_truth_as_often_as_they_say(name: str, rel_err: float) -> None:
    op = _matrix(name)
    hits = np.array([
        [
            *_trace_hits(op, rel_err, seed),
            _diagonal_hits(op, seed),
        ]
        for seed in SEEDS
    ])
    covered = hits.mean(axis=0)
    assert 0.93 <= covered.mean() <= 0.99
    assert (covered >= 0.90).all()


def _quadratic_samples(A: Tensor, count: int, seed: int) -> tuple[FloatArray, FloatArray]:
    z = torch.from_numpy(np.random.default_rng(seed).choice([-1.0, 1.0], (count, len(A))))
    Az = z @ A
    return (Az * z).sum(1)[:, None].numpy(), Az.square().sum(1)[:, None].numpy()


def test_skewness_is_taken_out_of_a_fixed_number_of_samples() -> None:
    """Samples as skewed as they can be, z'uu'z: the plain t interval misses upwards too often."""
    u = np.random.default_rng(0).standard_normal(40)
    A = torch.from_numpy(np.outer(u, u))
    plain, ours = [], []
    for seed in range(1000):
        samples, _ = _quadratic_samples(A, 31, seed)
        found = summarized(samples)
        t = student_quantile(30.0, 0.975)
        plain.append(abs(found.value - u @ u) <= t * found.stderr)
        ours.append(_within(map(float, found.interval(0.95)), float(u @ u)))
    # Standard errors 0.007.
    assert np.mean(plain) < 0.925
    assert np.mean(ours) > np.mean(plain) + 0.01


def test_the_norms_vouch_for_the_variance() -> None:
    u = np.random.default_rng(0).standard_normal(40)
    outlier = torch.from_numpy(np.outer(u, u))
    factors = []
    for seed in range(200):
        samples, norms = _quadratic_samples(outlier, 31, seed)
        factors.append(widening(samples, norms))
        # The wider interval is never narrower than its own norms say.
        assert factors[-1] >= 1.0
        most = 2 * float(norms.mean()) / float(samples.var(ddof=1))
        assert factors[-1] <= max(1.0, most**0.5) * (1 + 1e-12)
    assert 1.02 < np.mean(factors) < 1.4
    # A diagonal has no variance at all, and no norm makes one of it.
    samples, norms = _quadratic_samples(torch.diag(torch.arange(40.0).double()), 31, 0)
    assert widening(samples, norms) == 1.0


def test_one_pass_has_no_interval() -> None:
    found = summarized(np.ones((1, 5)))
    assert found.value == 5.0
    assert np.isnan(found.stderr)
    assert np.isnan(found.interval(0.95)).all()
