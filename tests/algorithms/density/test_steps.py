"""Rules, step bounds and brackets, held against the measures that they are of."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

from curvtool.algorithms.density.brackets import Brackets, Function
from curvtool.algorithms.density.rules import Recurrence
from curvtool.algorithms.density.steps import SAME_NODE, step_bounds
from curvtool.results import FloatArray
from tests.algorithms.density.spectra import FAMILIES, measure, sent

EPS = float(np.finfo(np.float64).eps)
FUNCTIONS: dict[str, Function] = {
    "|x|": np.abs,
    "x^2": np.square,
    "x": lambda x: x,
    "effective": lambda x: np.maximum(x, 0) / (np.maximum(x, 0) + 1e-3),
    "log det": lambda x: np.log1p(np.maximum(x, 0) / 1e-3),
    "|x|^3": lambda x: np.abs(x) ** 3,
}


def _recurrence(name: str, steps: int, seed: int) -> tuple[Recurrence, FloatArray, FloatArray]:
    """Of a probe, and the measure that it is of."""
    values = FAMILIES[name]()
    [found] = sent(values, 1, steps, np.random.default_rng([seed, steps]))
    start = np.random.default_rng([seed, steps]).standard_normal(len(values))
    return found.recurrence, *measure(values, start)


@pytest.mark.parametrize("k", [1, 2, 5, 9])
def test_rules_have_the_moments_and_the_node(k: int) -> None:
    recurrence, x, w = _recurrence("semicircle", k, 0)
    nodes, weights = recurrence.gauss
    for degree in range(2 * k):
        # |x| <= 1: each product and each moment rounds by some P eps.
        assert abs(weights @ nodes**degree - w @ x**degree) <= 300 * EPS * (degree + k)
    at = np.array([-0.7, 0.01, 0.9])
    nodes_m, weights_m = recurrence.with_nodes_at(at)
    assert nodes_m.shape == weights_m.shape == (3, k + 1)
    assert np.abs(nodes_m - at[:, None]).min(axis=1).max() < 1e-12
    for degree in range(2 * k + 1):  # one more than Gauss's rule
        # A free node far away has a weight of rounding times its power.
        size = np.abs(nodes_m).max() ** degree
        apart = (weights_m * nodes_m**degree).sum(axis=1) - w @ x**degree
        assert np.abs(apart).max() <= 300 * EPS * (degree + k) * max(1.0, size)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_step_lies_between_its_bounds(name: str) -> None:
    """At eigenvalues, beside them by a rounding, between them, and beyond the ends."""
    checks = 0
    for seed, k in enumerate((3, 10, 25, 60)):
        recurrence, x, w = _recurrence(name, k, seed)
        top = float(np.abs(x).max())
        own = np.unique(x)[:: max(1, len(np.unique(x)) // 60)]
        drawn = np.random.default_rng(seed).uniform(x[0] - 0.1 * top, x[-1] + 0.1 * top, 60)
        near = np.concatenate([own * (1 + s * 2e-16) for s in (-1, 0, 1)])
        at = np.concatenate([near, drawn, recurrence.gauss[0], [0.0, 1e-9 * top]])
        lower, upper = step_bounds(recurrence, at)
        upto = np.array([w[x <= t].sum() for t in at])
        before = np.array([w[x < t].sum() for t in at])
        # T rounds by eps: an eigenvalue that is farther than 1e-9 from the point may share its
        # weight with a node on the other side, by eps / 1e-9 of it at most.
        assert (lower <= before + EPS / SAME_NODE).all()
        assert (upper >= upto - EPS / SAME_NODE).all()
        checks += 2 * len(at)
    assert checks >= 400


def test_nodes_below_a_point_are_no_bound() -> None:
    """The weights of the nodes below x, the naive reading, exceed F(x) somewhere."""
    recurrence, x, w = _recurrence("semicircle", 10, 0)
    nodes, weights = recurrence.gauss
    at = nodes + 1e-6
    naive = np.array([weights[nodes < t].sum() for t in at])
    truth = np.array([w[x < t].sum() for t in at])
    assert (naive > truth + 0.01).any()


@pytest.mark.parametrize("at", [-0.55, 0.03, 0.6])
def test_no_bounds_are_narrower(at: float) -> None:
    """A linear programme over all measures with the moments reaches the bounds."""
    k = 4
    recurrence, _, _ = _recurrence("semicircle", k, 1)
    lower, upper = (float(b[0]) for b in step_bounds(recurrence, np.array([at])))
    nodes, weights = recurrence.with_nodes_at(np.array([at]))
    grid = np.unique(np.concatenate([np.linspace(-1.6, 1.6, 1601), nodes[0]]))
    # Moments in Chebyshev's polynomials, lest the programme be ill-posed.
    V = np.polynomial.chebyshev.chebvander(grid / 1.6, 2 * k).T
    b = np.polynomial.chebyshev.chebvander(nodes[0] / 1.6, 2 * k).T @ weights[0]
    for step, bound, sign in ((grid < at - 1e-9, lower, 1), (grid <= at + 1e-9, upper, -1)):
        found = linprog(sign * step.astype(float), A_eq=V, b_eq=b, bounds=(0, None))
        assert found.status == 0
        assert abs(sign * found.fun - bound) < 1e-6


@pytest.mark.parametrize("name", FAMILIES)
def test_brackets_hold_the_integral(name: str) -> None:
    for seed, k in enumerate((5, 12, 30)):
        for draw in range(3):
            recurrence, x, w = _recurrence(name, k, 100 * draw + seed)
            found = Brackets(recurrence, float(x[0]), float(x[-1]), 0.0)
            for f in FUNCTIONS.values():
                truth = float(w @ f(x))
                slack = 1e-12 * float(np.abs(f(x)).max())
                for low, high in (found.bracket(f), found.bracket(f, proved=True)):
                    assert low - slack <= truth <= high + slack
                assert found.square(f) >= float(w @ f(x) ** 2) - slack


def test_the_sweep_is_narrower_than_the_proof_and_narrows() -> None:
    widths = []
    for k in (10, 20, 40):
        recurrence, x, _ = _recurrence("network", k, 0)
        found = Brackets(recurrence, float(x[0]), float(x[-1]), 0.0)
        (low, high), (least, most) = found.bracket(np.abs), found.bracket(np.abs, proved=True)
        assert high - low < 0.5 * (most - least)
        widths.append(high - low)
    assert widths[0] > 2 * widths[1] > 4 * widths[2]


def test_the_noise_widens_a_bracket_by_what_it_may_hide() -> None:
    recurrence, x, w = _recurrence("network", 20, 0)
    eta = 1e-3
    quiet = Brackets(recurrence, float(x[0]), float(x[-1]), 0.0).bracket(np.abs)
    low, high = Brackets(recurrence, float(x[0]), float(x[-1]), eta).bracket(np.abs)
    # |x| moves by eta at most, and by no more; a bracket's tenth is of its own width.
    assert quiet[0] - 1.5 * eta <= low <= quiet[0]
    assert quiet[1] + 0.9 * eta <= high <= quiet[1] + 1.5 * eta
    moved = w @ np.abs(x + eta * np.random.default_rng(0).uniform(-1, 1, len(x)))
    assert low <= moved <= high


def test_bounds_do_not_depend_on_the_unit() -> None:
    recurrence, x, _ = _recurrence("network", 15, 0)
    for unit in (1e-30, 1e25):
        other = Recurrence(recurrence.alpha_k * unit, recurrence.beta_k * unit)
        at = x[::20]
        for here, there in zip(
            step_bounds(recurrence, at), step_bounds(other, at * unit), strict=True
        ):
            np.testing.assert_allclose(here, there, atol=1e-9)
        ends = float(x[0]), float(x[-1])
        mine = Brackets(recurrence, *ends, 0.0).bracket(np.abs)
        theirs = Brackets(other, ends[0] * unit, ends[1] * unit, 0.0).bracket(np.abs)
        np.testing.assert_allclose(np.array(theirs) / unit, mine, rtol=1e-9)
