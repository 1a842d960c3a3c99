"""Laws of the trace estimate on stored matrices; coverage has a file of its own."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from curvtool.algorithms.deflation import deflated, nothing_deflated
from curvtool.algorithms.estimation import EstimateProgress, TraceSettings
from curvtool.algorithms.exact import exact_trace
from curvtool.algorithms.hutchinson import LEAST_DEGREES, hutchinson
from curvtool.algorithms.sampling import Passes
from curvtool.errors import CurvtoolError
from curvtool.operators.base import BudgetExhausted, Counted, FunctionOperator
from curvtool.operators.hessian import HessianOperator
from curvtool.random_vectors.streams import Kind
from curvtool.results import Outcome
from tests.algorithms.matrices import EPS64, diagonal, rotated
from tests.algorithms.sums import (
    DenseSum,
    layer_truths,
    rademacher_variance,
    random_sum,
    selected,
    thirds,
)
from tests.objectives import CASES, truth

SETTINGS = TraceSettings(rel_err=0.1, noise=1e-14)


def _passes(op: DenseSum, count: int, *, shared: bool, **more: object) -> Passes:
    passes = Passes(
        op,
        nothing_deflated(op, ()),
        **({"shared": shared, "probes": "rademacher", "seed": 0} | more),  # type: ignore[arg-type]
    )
    for _ in range(count):
        passes.add()
    return passes


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("kind", ["rademacher", "gaussian"])
def test_samples_are_unbiased_and_have_the_variance_of_the_formula(
    shared: bool, kind: Kind
) -> None:
    op = random_sum(12, 4, seed=1)
    R = 1500
    passes = _passes(op, R, shared=shared, probes=kind)
    matrices = [op.terms.sum(0)] if shared else list(op.terms)
    for b, A in enumerate(matrices):
        variance = rademacher_variance(A) if kind == "rademacher" else 2 * float(A.square().sum())
        column = passes.samples[:, b]
        assert abs(column.mean() - float(A.trace())) < 5 * math.sqrt(variance / R)
        # A quadratic form has kurtosis of at most 15, that of a chi-square with one degree.
        assert abs(column.var(ddof=1) / variance - 1) < 5 * math.sqrt(14 / R)
        norms = passes.norms[:, b]
        square = float(A.square().sum())
        assert abs(norms.mean() / square - 1) < 5 * math.sqrt(2 / R)  # at most, at rank one


def test_a_probe_for_every_batch_has_the_variance_that_the_norms_promise() -> None:
    op = random_sum(30, 16, seed=2, common=1.0)
    R = 800
    shared, single = (_passes(op, R, shared=s) for s in (True, False))
    whole, terms = rademacher_variance(op.terms.sum(0)), sum(map(rademacher_variance, op.terms))
    measured = shared.samples.var(ddof=1) / single.samples.var(axis=0, ddof=1).sum()
    assert whole / terms > 2
    # Both variances to 5 sqrt(14 / R) at worst, independently.
    assert abs(measured / (whole / terms) - 1) < 5 * math.sqrt(2 * 14 / R)
    by_term = _passes(op, 0, shared=True)
    for _ in range(300):
        by_term.add(by_term=True)
    predicted = float(op.terms.sum(0).square().sum() / op.terms.square().sum((1, 2)).sum())
    assert abs(by_term.gain / predicted - 1) < 0.3  # the issue's own allowance


@pytest.mark.parametrize("shared", [True, False])
def test_deflation_leaves_every_quantity_unbiased(shared: bool) -> None:
    """Directions that are no eigenvectors, in pieces of layers, with a shift."""
    op = random_sum(20, 4, seed=3, shift=0.3)
    layers = thirds(20)
    V = torch.randn(3, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    taken = deflated(op, V, layers, diagonal=True)
    assert taken.hvps == 3
    passes = Passes(
        op, taken, shared=shared, probes="rademacher", seed=0, layers=layers, diagonal=True
    )
    for _ in range(1500):
        passes.add()
    H, eye = op.matrix, torch.eye(20, dtype=torch.float64)
    p = eye - taken.Q_kP.T @ taken.Q_kP
    T = H - 0.3 * eye
    traces, rows = layer_truths(H, layers)
    sizes = np.array([layer.size for layer in layers])

    def holds(found: np.ndarray, stderr: np.ndarray, expected: np.ndarray) -> bool:
        return bool((np.abs(found - expected) <= 5 * stderr + 1e-12).all())

    whole = passes.trace
    assert holds(whole.value + taken.trace + 0.3 * 20, whole.stderr, np.array(float(H.trace())))
    by_layer = passes.layer_traces
    assert holds(by_layer.value + taken.layer_trace + 0.3 * sizes, by_layer.stderr, traces)
    assert passes.mean_P is not None
    assert taken.diagonal_P is not None
    found_P = (passes.mean_P + taken.diagonal_P + 0.3).numpy()
    errors_P = passes.diagonal_variance_P.sqrt().numpy()
    assert holds(found_P, errors_P, H.diagonal().numpy())
    if shared:
        square = passes.frobenius
        exact = np.array([taken.frobenius, *taken.layer_frobenius])
        expected = np.array([float(H.square().sum()), *rows])
        assert holds(square.value + exact, square.stderr, expected)
    left = float((p @ T @ p).square().sum())
    assert math.isclose(float(T.square().sum()) - taken.taken, left, rel_tol=1e-10)
    for b, A in enumerate(op.terms):
        left = float((p @ A @ p).square().sum())
        assert math.isclose(float(A.square().sum() - taken.taken_by_term[b]), left, rel_tol=1e-10)


@pytest.mark.parametrize("name", ["tanh", "cnn", "gpt", "weight-decay"])
def test_holds_the_dense_trace_of_a_network(name: str) -> None:
    operator = HessianOperator(CASES[name].objective(batch_size=4))
    H = truth(name)
    layers = thirds(operator.size)
    asked = replace(SETTINGS, rel_err=None, max_hvps=60, layers=layers, frobenius=True)
    found = hutchinson(operator, asked)
    assert found.outcome is Outcome.CONVERGED
    assert found.hvps == 60
    # 5 standard errors at 12 degrees of freedom or more: one false alarm in 3,000.
    assert abs(found.trace - float(H.trace())) <= 5 * found.stderr
    traces, rows = layer_truths(H, layers)
    assert found.layer_trace is not None
    assert found.layer_stderr is not None
    assert (np.abs(found.layer_trace - traces) <= 5 * found.layer_stderr).all()
    assert math.isclose(found.layer_trace.sum(), found.trace, rel_tol=1e-9)
    assert found.frobenius_squared is not None
    assert found.frobenius_squared_stderr is not None
    square = float(H.square().sum())
    assert abs(found.frobenius_squared - square) <= 5 * found.frobenius_squared_stderr
    assert found.layer_frobenius_squared is not None
    assert found.layer_frobenius_squared_stderr is not None
    assert (
        np.abs(found.layer_frobenius_squared - rows) <= 5 * found.layer_frobenius_squared_stderr
    ).all()


def test_the_record_is_what_its_samples_say() -> None:
    found = hutchinson(random_sum(seed=1), replace(SETTINGS, lanczos=False, sharing="per-batch"))
    R = len(found.samples)
    squares = found.samples.var(axis=0, ddof=1)
    assert math.isclose(found.trace, found.samples.mean(axis=0).sum())
    assert math.isclose(found.stderr, math.sqrt(squares.sum() / R))
    degrees = squares.sum() ** 2 / (squares**2 / (R - 1)).sum()
    assert math.isclose(found.degrees_of_freedom, degrees)
    assert degrees >= LEAST_DEGREES
    low, high = found.interval
    assert (high - low) / 2 <= 0.1 * abs(found.trace)
    assert found.hvps == R == sum(found.hvps_by_stage.values())


@pytest.mark.parametrize("common", [0.0, 1.0])
def test_products_are_counted_and_their_limit_is_kept(common: float) -> None:
    op = random_sum(40, 8, seed=1, common=common)
    for limit in (1, 2, 3, 5, 30, 70, 90):
        calls = 0.0

        def matvec(v: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            return op.matvec(v)

        class Spy:
            num_terms, shift, size, dtype, device = 8, 0.0, 40, op.dtype, op.device

            def matvec(self, v: Tensor, /) -> Tensor:
                return matvec(v)

            def term(self, i: int, v: Tensor, /) -> Tensor:
                nonlocal calls
                calls += 1 / 8
                return op.term(i, v)

        found = hutchinson(Spy(), replace(SETTINGS, rel_err=1e-3, max_hvps=limit))
        assert math.isclose(found.hvps, calls)
        assert calls <= limit
        assert found.outcome is Outcome.MAX_HVPS
        assert found.is_interval is (len(found.samples) > 1)
        assert math.isnan(found.stderr) is (len(found.samples) == 1)


def test_the_cheaper_kind_of_probe_is_taken_and_said() -> None:
    alike = random_sum(30, 16, seed=0, common=3.0)
    found = hutchinson(alike, SETTINGS)
    assert found.sharing == "per-batch"
    assert "A probe for each of 16 batches" in found.reason
    # One batch carries nearly all of H, the others cancel each other.
    N = random_sum(30, 1, seed=5).terms[0]
    few = DenseSum(torch.stack([0.1 * N, *([N, -N] * 8)]))
    found = hutchinson(few, replace(SETTINGS, lanczos=False))
    assert found.sharing == "shared"
    assert "One probe for all 17 batches" in found.reason


def test_a_lanczos_of_its_own_pays_where_outliers_carry_the_variance() -> None:
    eigenvalues = np.concatenate([50 * 0.6 ** np.arange(10), np.full(290, 0.05)])
    known = rotated(eigenvalues, seed=0)
    spent = {}
    for lanczos in (False, True):
        operator = Counted(known.operator)
        found = hutchinson(operator, replace(SETTINGS, rel_err=0.02, lanczos=lanczos))
        spent[lanczos] = operator.calls
        assert found.hvps == operator.calls
        assert found.outcome is Outcome.CONVERGED
        assert abs(found.trace - eigenvalues.sum()) <= 0.04 * found.trace
    assert found.deflated > 0
    assert "Ritz vectors are taken out" in found.reason
    assert spent[True] < spent[False] / 5
    flat = rotated(np.linspace(-1, 1.2, 300), seed=0)
    # Under 6 of 40 seeds, 0 among them, the pilot is enough, and nothing needs to be decided.
    found = hutchinson(flat.operator, replace(SETTINGS, max_hvps=400, seed=1))
    assert found.deflated == 0
    assert "Nothing is deflated" in found.reason


def test_given_vectors_are_taken_out() -> None:
    op = random_sum(40, 8, seed=1, shift=0.1)
    Y = torch.linalg.eigh(op.matrix)[1][:, -3:].T
    found = hutchinson(op, replace(SETTINGS, lanczos=False), vectors=Y)
    top = float(torch.linalg.eigvalsh(op.matrix)[-3:].sum())
    assert math.isclose(found.deflated_trace, top, rel_tol=1e-10)
    assert found.hvps_by_stage["deflate"] == found.deflated == 3
    with pytest.raises(ValueError, match="fewer directions"):
        hutchinson(op, replace(SETTINGS, max_hvps=3), vectors=Y)


def test_a_trace_of_zero_is_said_to_need_an_absolute_accuracy() -> None:
    operator = rotated(np.concatenate([np.linspace(-1, 1, 40), [0.0]]), seed=0).operator
    found = hutchinson(operator, replace(SETTINGS, max_hvps=2000))
    assert found.outcome is Outcome.MAX_HVPS
    assert "--abs-err" in found.reason
    assert found.hvps < 2000
    found = hutchinson(operator, replace(SETTINGS, rel_err=None, abs_err=1.0))
    assert found.outcome is Outcome.CONVERGED
    assert abs(found.trace) <= 2.0


def test_a_negative_trace_is_estimated_like_any_other() -> None:
    op = random_sum(seed=4)
    found = hutchinson(DenseSum(-op.terms), SETTINGS)
    assert found.outcome is Outcome.CONVERGED
    assert found.interval[0] <= found.trace <= found.interval[1] < 0
    assert found.trace == -hutchinson(op, SETTINGS).trace


def test_one_parameter_takes_one_product() -> None:
    operator = Counted(diagonal(np.array([-3.0])))
    found = hutchinson(operator, SETTINGS)
    assert operator.calls == found.hvps == 1
    assert found.trace == -3.0
    low, high = found.interval
    assert low < -3.0 < high
    # Sixteen roundings at least, and not many more.
    assert 6 * 16 * EPS64 <= high - low <= 6 * 100 * EPS64


def test_matrices_without_variance_leave_the_rounding_alone() -> None:
    values = np.arange(20.0)
    found = hutchinson(diagonal(values), SETTINGS)
    low, high = found.interval
    assert found.outcome is Outcome.CONVERGED
    assert found.stderr == 0
    assert low < values.sum() < high
    # Delta of the trace, and three times delta of |H|_F.
    size = SETTINGS.noise * (values.sum() + 3 * float(np.linalg.norm(values)))
    assert size <= high - low <= 4 * size


def test_only_the_zero_matrix_is_a_point() -> None:
    for run in (hutchinson, exact_trace):
        found = run(diagonal(np.zeros(20)), replace(SETTINGS, frobenius=True))
        assert found.outcome is Outcome.CONVERGED
        assert found.interval == (0.0, 0.0)
        assert found.frobenius_squared_interval == (0.0, 0.0)


def test_products_that_are_not_finite_are_refused() -> None:
    for bad in (math.nan, math.inf):
        operator = FunctionOperator(partial(torch.mul, torch.tensor(bad).double()), 20)
        for run in (hutchinson, exact_trace):
            with pytest.raises(CurvtoolError, match="not finite"):
                run(operator, SETTINGS)


def test_an_unfinished_pass_is_dropped() -> None:
    op = random_sum(30, 8, seed=1)
    calls = 0

    class Ending:
        num_terms, shift, size, dtype, device = 8, 0.0, 30, op.dtype, op.device
        matvec = op.matvec

        def term(self, i: int, v: Tensor, /) -> Tensor:
            nonlocal calls
            calls += 1
            if calls > 4 * 8 + 5:
                raise BudgetExhausted
            return op.term(i, v)

    found = hutchinson(Ending(), replace(SETTINGS, sharing="per-batch", layers=thirds(30)))
    assert found.samples.shape == (4, 8)
    assert found.outcome is Outcome.MAX_HVPS
    assert found.layer_trace is not None
    assert math.isclose(found.layer_trace.sum(), found.trace, rel_tol=1e-12)


def test_nothing_is_said_where_no_pass_was_made() -> None:
    with pytest.raises(BudgetExhausted):
        hutchinson(Counted(random_sum(), budget=0), SETTINGS)


def test_the_dense_way_is_exact_down_to_layers() -> None:
    op = random_sum(90, 4, seed=1, shift=0.2)
    layers = thirds(90)
    operator = Counted(op)
    found = exact_trace(operator, replace(SETTINGS, layers=layers, frobenius=True))
    traces, rows = layer_truths(op.matrix, layers)
    assert operator.calls == found.hvps == 90
    assert math.isclose(found.trace, float(op.matrix.trace()), rel_tol=1e-13)
    assert found.layer_trace is not None
    assert found.layer_frobenius_squared is not None
    assert np.allclose(found.layer_trace, traces, rtol=1e-13)
    assert np.allclose(found.layer_frobenius_squared, rows, rtol=1e-13)
    assert selected(op.matrix.diagonal(), layers[0]).shape == (25,)


def test_a_run_is_repeated_bitwise_by_its_seed_and_reports_its_way() -> None:
    op = random_sum(seed=7)
    told: list[EstimateProgress] = []
    one = hutchinson(op, SETTINGS, report=told.append)
    assert (one.samples == hutchinson(op, SETTINGS).samples).all()
    assert one.trace != hutchinson(op, replace(SETTINGS, seed=1)).trace
    assert [p.hvps for p in told] == sorted(p.hvps for p in told)
    assert told[-1].hvps == one.hvps


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"rel_err": 0.0}, "rel_err"),
        ({"abs_err": -1.0}, "abs_err"),
        ({"confidence": 1.0}, "confidence"),
        ({"max_hvps": 0}, "max_hvps"),
    ],
)
def test_senseless_requests_are_refused(change: dict[str, float], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        replace(SETTINGS, **change)  # type: ignore[arg-type]
