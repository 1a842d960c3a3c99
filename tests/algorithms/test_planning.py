"""What the planner predicts, held against matrices that are known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from curvtool.algorithms.deflation import deflated, orthonormal_rows
from curvtool.algorithms.planning import (
    FEWEST_STEPS,
    LEAST_LEFT,
    Outlook,
    choice_of_sharing,
    confirmed,
    planned,
    short_lanczos,
    steps_worth_trying,
)
from curvtool.algorithms.space import Space
from curvtool.operators.base import Counted
from tests.algorithms.matrices import EPS64, diagonal, rotated
from tests.algorithms.sums import random_sum

OUTLOOK = Outlook(
    needed=1000.0, shared=True, terms=8, norm=100.0, term_norms=50.0, fewest=(31.0, 4.75)
)


def test_the_kind_with_less_variance_is_chosen() -> None:
    assert choice_of_sharing(8, 0.5)[0]
    assert not choice_of_sharing(8, 4.0)[0]
    assert "4.0 times less variance" in choice_of_sharing(8, 4.0)[1]


def test_passes_follow_the_norms_that_are_left() -> None:
    assert OUTLOOK.passes(0.0, 0.0) == (500.0, False)  # term by term there is half the variance
    assert OUTLOOK.passes(90.0, 10.0) == (100.0, True)
    # What nearly cancels is not trusted, and no look comes before its least passes.
    assert OUTLOOK.passes(99.999, 0.0) == (max(31.0, 1000 * LEAST_LEFT), True)
    assert replace(OUTLOOK, needed=50.0).passes(90.0, 10.0) == (20.0, False)


def test_a_lanczos_is_tried_only_where_much_lies_ahead() -> None:
    assert steps_worth_trying(OUTLOOK, done=31, most=32) == 32
    assert steps_worth_trying(OUTLOOK, done=31, most=FEWEST_STEPS - 1) == 0
    assert steps_worth_trying(replace(OUTLOOK, needed=60.0), done=31, most=32) == 0


def test_directions_are_taken_until_one_costs_more_than_it_saves() -> None:
    values = np.array([8.0, 5.0, 2.0, 0.1, 0.1])
    plan = planned(OUTLOOK, values, done=100)
    # 64 + 25 + 4 of 100: the third saves 30 passes or more, the fourth a tenth of one.
    assert plan.directions == 3
    assert plan.shared
    assert math.isclose(plan.predicted, 3 + 1000 * 0.07)
    assert plan.without == 900
    assert "3 Ritz vectors" in plan.sentence
    assert planned(replace(OUTLOOK, needed=120.0), 0.01 * values, done=100).directions == 0


def test_a_norm_that_came_out_small_does_not_end_the_list_of_directions() -> None:
    values = np.array([8.0, 5.0, 3.0, 1.0])  # squares 64 + 25 + 9 + 1
    unlucky = replace(OUTLOOK, norm=40.0)
    assert planned(unlucky, values, done=100).directions == 1  # which seems to take all there is
    mended = unlucky.floored(values)
    assert mended.norm == 99.0
    # The samples came from the same few passes: the passes needed grow with the norm.
    assert math.isclose(mended.needed, 1000 * 99 / 40)
    # After three what is left nearly cancels, and is not trusted.
    assert planned(mended, values, done=100).directions == 3
    assert OUTLOOK.floored(values) is OUTLOOK
    assert replace(OUTLOOK, term_norms=1.0).floored(2 * values).term_norms == 4 * 99 / 8


def test_a_promise_that_does_not_hold_is_given_up() -> None:
    plan = planned(OUTLOOK, np.array([8.0, 5.0]), done=100)
    kept = confirmed(plan, OUTLOOK, 89.0, 12.0, done=100)
    assert kept.directions == plan.directions
    dropped = confirmed(plan, replace(OUTLOOK, term_norms=1e3), 1.0, 1.0, done=100)
    assert dropped.directions == 0
    assert "Nothing is deflated" in dropped.sentence


def test_what_directions_take_from_the_terms_is_at_least_what_is_counted_on() -> None:
    """|T_b q|^2 summed over B terms is at least |T q|^2 / B: the mean of squares."""
    for seed in range(5):
        op = random_sum(20, 6, seed=seed)
        values, vectors = torch.linalg.eigh(op.matrix)
        top = values.abs().argsort(descending=True)[:4]
        taken = deflated(op, vectors[:, top].T)
        square = float(values[top].square().sum())
        assert math.isclose(taken.taken, square, rel_tol=1e-9)
        assert float(taken.taken_by_term.sum()) >= square / 6 * (1 - 1e-9)


def test_a_short_lanczos_spends_a_product_a_step() -> None:
    known = rotated(np.concatenate([[50.0, -30.0, 20.0], np.linspace(0, 1, 97)]), seed=0)
    operator = Counted(known.operator)
    theta, Y, used = short_lanczos(operator, 12, seed=0)
    assert operator.calls == used == 12
    assert np.allclose(theta[:3], [50, -30, 20], rtol=1e-6)
    assert float((Y @ Y.T - torch.eye(12, dtype=Y.dtype)).abs().max()) <= 1e3 * EPS64
    # A space that closes early has cost what it has cost.
    theta, Y, used = short_lanczos(diagonal(np.array([1.0] * 10 + [2.0] * 10)), 8, seed=0)
    assert used == len(theta) == len(Y) == 2


def test_rows_that_depend_on_others_are_left_out() -> None:
    V = torch.randn(4, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    V[2] = V[0] - 3 * V[1]
    Q = orthonormal_rows(Space(V.shape[1], dtype=V.dtype, device=V.device), V)
    assert Q.shape == (3, 10)
    assert float((Q @ Q.T - torch.eye(3, dtype=Q.dtype)).abs().max()) <= 100 * EPS64
