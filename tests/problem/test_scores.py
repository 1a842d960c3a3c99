"""What is counted beside a loss: right predictions, and errors beside the spread of the targets."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from curvtool.problem.scores import Fit, Score, fit_of
from tests.problem.losses import EPS, batch_of, cut, loss_of, normal


@settings(deadline=None)
@given(
    cuts=st.lists(st.integers(0, 100), max_size=6),
    seed=st.integers(0, 99),
    far=st.sampled_from([0.0, 1e3, -1e6]),
)
def test_parts_add_up_to_the_whole(cuts: list[int], seed: int, far: float) -> None:
    outputs, targets = normal(9, 2, seed=seed) + far, normal(9, 2, seed=seed + 1) + far
    score = Score()
    for part in cut(batch_of(outputs, targets), cuts):
        score = score.joined(Score(fit=fit_of(*part.tensors)))
    assert score.fit is not None
    assert score.fit.count == 18
    # Differences of numbers of size `far` are off by eps of it, and nothing is worse.
    allowed = 100 * EPS * (10 + abs(far))
    assert abs(score.fit.rmse - float((outputs - targets).square().mean().sqrt())) <= allowed
    assert abs(score.fit.target_std - float(targets.std(correction=0))) <= allowed


def test_half_precision_is_summed_in_double() -> None:
    targets = torch.full((1000, 10), 300.0, dtype=torch.float16)
    found = fit_of(torch.zeros_like(targets), targets)
    assert (found.rmse, found.target_std) == (300.0, 0.0)


@pytest.mark.parametrize("name", ["mse", "huber"])
def test_real_predictions_have_their_errors(name: str) -> None:
    outputs, targets = normal(5, 3), normal(5, 3, seed=1)
    value = loss_of(name)(nn.Identity(), batch_of(outputs, targets), score=True)
    assert value.score.fit is not None
    assert math.isclose(value.score.fit.rmse**2, float((outputs - targets).square().mean()))
    assert value.score.accuracy is None
    assert loss_of(name)(nn.Identity(), batch_of(outputs, targets)).score == Score()


def test_nothing_counted_is_no_figure() -> None:
    assert Score().accuracy is None
    assert Score(0, 0).accuracy is None
    assert Score().joined(Score(1, 2)) == Score(1, 2) == Score(1, 2).joined(Score())
    assert Score(1, 2).joined(Score(2, 3)).accuracy == 3 / 5
    empty = fit_of(torch.zeros(0), torch.zeros(0))
    assert math.isnan(empty.rmse)
    assert empty.joined(Fit(1, 4.0, 3.0, 0.0)).rmse == 2.0
