"""Probes and what they prove, on matrices whose eigenvectors are the axes.

Letters: N size, k listed values.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from curvtool.algorithms.completeness import (
    CHANCE,
    GIVEN_UP_AFTER,
    Held,
    Probed,
    chance_of_round,
    probe,
    stated,
    with_extras,
)
from curvtool.algorithms.settings import Which
from curvtool.algorithms.space import space_of
from curvtool.operators.base import Counted, FunctionOperator
from curvtool.random_vectors.purposes import Purpose
from curvtool.results import Completeness, FloatArray
from tests.algorithms.matrices import EPS64, diagonal, rotated

N = 100
VALUES = np.concatenate([[12.8, 12.8, 9.0, 7.0], np.linspace(-3, 4, N - 4)])


def _held(
    values: FloatArray, places: list[int], which: Which, tol: float = 1e-3, **more: object
) -> Held:
    theta = values[places]
    largest = float(np.abs(values).max())
    parts: dict[str, object] = {
        "rows": torch.eye(len(values), dtype=torch.float64)[places],
        "theta": theta,
        "R": np.zeros((len(places), 0)),
        "k": len(places),
        "which": which,
        "margin": tol * np.maximum(np.abs(theta), 0.01 * largest),
        "largest": largest,
        "noise": 0.0,
    }
    return Held(**parts | more)  # type: ignore[arg-type]


def _probe(
    values: FloatArray,
    held: Held,
    seed: int,
    *,
    chance: float = CHANCE,
    cap: int = 1000,
    most: int = 1000,
    room: int = 60,
) -> Probed:
    counted = Counted(diagonal(values))
    space = space_of(counted)
    start = space.orthonormal_start(held.rows, Purpose.COMPLETENESS, 0, seed=seed)
    assert start is not None
    scratch = space.empty(room)
    found = probe(counted, held, start, scratch, chance=chance, cap=cap, most=most)
    assert found.products == counted.calls
    return found


def _stated(values: FloatArray, held: Held, found: Probed, chance: float = CHANCE) -> Completeness:
    return stated(held, found, len(values), chance=chance, spent=found.products, found=0)[0]


def _is_false(values: FloatArray, statement: Completeness) -> bool:
    """Whether more eigenvalues lie beyond a point than is said."""
    for name, end in statement.ends:
        assert end.nothing_beyond is not None
        sign = 1.0 if name == "upper" else -1.0
        beyond = int((sign * values > sign * end.nothing_beyond).sum())
        if beyond > end.proved_rank:
            return True
    return False


def test_a_missed_copy_is_seen_from_every_start() -> None:
    for seed in range(20):
        found = _probe(VALUES, _held(VALUES, [0, 2], "LA"), seed)
        assert found.seen
        assert found.products <= 10


@pytest.mark.parametrize(
    ("which", "places"),
    [
        ("LA", [0, 1, 2]),
        ("LM", [0, 1, 2]),
        ("SA", [4, 5]),
        ("BE", [0, 1, 5, 4]),
    ],
)
def test_a_whole_list_is_proved_from_every_start(which: Which, places: list[int]) -> None:
    for seed in range(20):
        held = _held(VALUES, places, which)
        found = _probe(VALUES, held, seed)
        assert not found.seen
        statement = _stated(VALUES, held, found)
        assert statement.complete
        ends = 1 if which in {"LA", "SA"} else 2
        assert statement.probability == pytest.approx(1 - ends * CHANCE)
        assert statement.proved_rank == statement.listed == len(places)
        for _, end in statement.ends:
            assert end.complete
            assert end.unseen <= CHANCE * (1 + 1e-6)
        assert statement.margin == pytest.approx(1e-3)
        assert statement.products == found.products


def test_only_the_end_that_is_asked_for_counts() -> None:
    """The lower values are listed nowhere; of LM none of them is large enough to matter."""
    for seed in range(10):
        upper = _held(VALUES, [0, 1, 2, 3], "LA")
        assert _stated(VALUES, upper, _probe(VALUES, upper, seed)).lower is None
        assert _probe(VALUES, _held(VALUES, [0, 1, 2, N - 1], "BE"), seed).seen
        negative = np.append(VALUES, -12.0)
        assert _probe(negative, _held(negative, [0, 1, 2, 3], "LM"), seed).seen
        assert not _probe(negative, _held(negative, [0, 1, 2, 3], "LA"), seed).seen


@pytest.mark.parametrize("noise", [0.0, 1e-4], ids=["exact", "noisy"])
def test_a_probe_errs_as_often_as_it_may(noise: float) -> None:
    """Spikes 2 % apart and a hidden copy of the last but one: a statement there is true by chance.

    A probe that cannot fail proves nothing: of statements that may fail in 10 %, 3 to 10 % do.
    """
    chance, cases, k = 0.1, 400, 8
    false = complete = 0
    spikes = 1 + 0.02 * np.arange(k)[::-1]
    for seed in range(cases):
        rng = np.random.default_rng([seed, 1])
        values = np.concatenate([spikes, [spikes[-2]], rng.uniform(0, 0.5, N)])
        d = torch.from_numpy(values)
        shift = torch.from_numpy(rng.standard_normal((len(values), 2)) * noise / len(values) ** 0.5)

        def product(v: Tensor, d: Tensor = d, shift: Tensor = shift) -> Tensor:
            return d * v + shift[:, 0] * (v @ shift[:, 1]).sign() * v.norm()

        operator = FunctionOperator(product, len(values))
        held = _held(values, list(range(k)), "LA", tol=1e-4)
        space = space_of(operator)
        start = space.orthonormal_start(held.rows, Purpose.COMPLETENESS, 0, seed=seed)
        assert start is not None
        found = probe(operator, held, start, space.empty(40), chance=chance, cap=40, most=40)
        if found.seen:
            continue
        statement = _stated(values, held, found, chance)
        complete += statement.complete
        false += statement.complete or _is_false(values, statement)
    assert 0.03 * cases <= false <= 0.1 * cases
    assert complete > 0


@pytest.mark.parametrize("products", [1, 3, 6, 10, 20])
def test_a_probe_that_is_cut_short_states_what_it_has(products: int) -> None:
    """An edge without a gap: nothing is complete, and what is said is true all the same."""
    values = np.concatenate([np.linspace(2, 3, 6), np.linspace(-1, 1.99, 194)])
    places = list(range(5, -1, -1))
    ranks, points = [], []
    for seed in range(20):
        held = _held(values, places, "LA")
        found = _probe(values, held, seed, most=products)
        statement = _stated(values, held, found)
        assert not statement.complete
        assert not _is_false(values, statement)
        ((_, end),) = statement.ends
        assert end.listed == 6
        assert end.nothing_beyond is not None
        ranks.append(end.proved_rank)
        points.append(end.nothing_beyond)
        # Values beyond the point are those that are listed, and no others.
        assert (values > end.nothing_beyond).sum() <= end.proved_rank
    if products >= 20:
        assert min(ranks) >= 3
        assert max(points) < 2.8


def test_what_cannot_be_proved_in_time_is_given_up_after_ten_products() -> None:
    values = np.concatenate([np.linspace(2, 3, 6), np.linspace(-1, 1.99, 194)])
    held = _held(values, list(range(5, -1, -1)), "LA")
    for seed in range(10):
        assert _probe(values, held, seed, cap=15).products == GIVEN_UP_AFTER
        assert _probe(values, held, seed, cap=3).products == 3
        longer = _probe(values, held, seed, cap=190)
        assert longer.products > GIVEN_UP_AFTER
        assert _stated(values, held, longer).complete


def test_what_spans_all_that_is_not_held_has_seen_everything() -> None:
    values = np.array([3.0, 2.0, 1.5, 1.4999, 0.0])
    for seed in range(10):
        held = _held(values, [0, 1, 2], "LA", tol=1e-6)
        found = _probe(values, held, seed)
        assert found.closed
        assert found.products <= 2
        statement = _stated(values, held, found)
        assert statement.complete
        assert not _is_false(values, statement)


def test_nothing_left_of_a_product_is_no_reason_to_stop_elsewhere() -> None:
    """The complement is a multiple of the identity: one product tells its value."""
    values = np.concatenate([[2.0, 1.5], np.full(50, 0.25)])
    held = _held(values, [0, 1], "LA")
    found = _probe(values, held, 0)
    assert found.products <= 2
    assert _stated(values, held, found).complete


@pytest.mark.parametrize("seed", range(3))
def test_what_it_says_does_not_depend_on_where_its_rows_are_kept(seed: int) -> None:
    values = np.concatenate([[5.0, 4.0], 1 / np.arange(1.0, 99.0)])
    held = _held(values, [0, 1], "LA")
    whole = _probe(values, held, seed)
    assert whole.keeps_all
    assert whole.products >= 4
    for room in (0, 1, 3):
        found = _probe(values, held, seed, room=room)
        assert not found.keeps_all
        assert len(found.columns) == room
        # Against the last two rows alone, orthogonality is lost as in any Lanczos recurrence.
        np.testing.assert_allclose(found.alpha, whole.alpha, atol=1e-8)
        np.testing.assert_allclose(found.beta, whole.beta, atol=1e-8)


def test_an_approximate_list_costs_no_margin() -> None:
    """Vectors with residuals: the statement is of A, not of what is left of it."""
    rng = np.random.default_rng(0)
    lam = np.concatenate([[3.0, 2.5, 2.0], np.linspace(-1, 1, 97)])
    known = rotated(lam, seed=0)
    A = known.matrix.numpy()
    U = np.linalg.eigh(A)[1][:, -3:][:, ::-1]
    Y = np.linalg.qr(U + 0.003 * rng.standard_normal((100, 3)))[0]
    theta, S = np.linalg.eigh(Y.T @ A @ Y)
    Y, theta = (Y @ S)[:, ::-1], theta[::-1]
    residual = A @ Y - Y * theta
    held = Held(
        rows=torch.from_numpy(np.ascontiguousarray(Y.T)),
        theta=theta,
        R=np.linalg.qr(residual)[1].T,
        k=3,
        which="LA",
        margin=0.01 * theta,
        largest=3.0,
        noise=0.0,
    )
    assert np.linalg.norm(residual, axis=0).min() > 0.02  # far above the margin of a single value
    space = space_of(known.operator)
    for seed in range(10):
        start = space.orthonormal_start(held.rows, Purpose.COMPLETENESS, 0, seed=seed)
        assert start is not None
        found = probe(known.operator, held, start, space.empty(60), chance=CHANCE, cap=60, most=60)
        statement, limits = stated(held, found, 100, chance=CHANCE, spent=0, found=0)
        assert statement.complete
        assert not _is_false(known.eigenvalues, statement)
        true = known.eigenvalues[::-1][:4]
        assert (true <= limits[True] + 100 * EPS64).all()
        assert limits[True][3] < 2


def test_the_noise_of_products_is_in_what_bounds_stand_on() -> None:
    quiet, noisy = (_held(VALUES, [0, 1, 2], "LA", noise=noise) for noise in (0.0, 0.5))
    found = _probe(VALUES, quiet, 0)
    limits = [
        stated(held, found, N, chance=CHANCE, spent=0, found=0)[1][True] for held in (quiet, noisy)
    ]
    np.testing.assert_allclose(limits[1] - limits[0], 0.5, rtol=1e-12)


def test_all_probes_of_a_run_together_have_the_chance_that_is_printed() -> None:
    chances = [chance_of_round(i) for i in range(60)]
    assert sum(chances) <= CHANCE * (1 + 4 * EPS64)
    assert chances[0] >= 0.9 * CHANCE


def test_the_start_of_a_probe_is_not_that_of_a_solve() -> None:
    """With the numbers of the solve nearly every statement would be false."""
    space = space_of(diagonal(VALUES))
    nothing = torch.zeros((0, N), dtype=torch.float64)
    for seed in range(5):
        solve = [
            space.orthonormal_start(nothing, Purpose.SOLVE_START, i, seed=seed) for i in range(4)
        ]
        probes = [
            space.orthonormal_start(nothing, Purpose.COMPLETENESS, i, seed=seed) for i in range(4)
        ]
        every = torch.stack([v for v in (*solve, *probes) if v is not None])
        assert len(every) == 8
        cosines = (every @ every.T - torch.eye(8)).abs().max()
        # Of 28 pairs of independent vectors in 100 dimensions: five standard deviations are 0.5.
        assert float(cosines) < 0.5


def test_extras_that_pay_are_deflated_and_those_that_cost_are_not() -> None:
    theta = np.array([5.0, 4.0, 3.9, 3.8, 1.0, 0.9, 0.8])
    held, asked = [0, 1], _held(theta, [0, 1], "LA")

    def chosen(*coupling: float, most: int = 7) -> list[int]:
        return with_extras(theta, np.array(coupling)[:, None], held, asked, most)

    assert chosen(0, 0, 1e-4, 1e-4, 1e-4, 1.0, 1.0) == [0, 1, 2, 3, 4]
    assert chosen(0, 0, 1e-4, 1e-4, 1e-4, 1.0, 1.0, most=3) == [0, 1, 2]
    # The third is not converged: with it the limit would fall into what is left.
    assert chosen(0, 0, 0.3, 1e-4, 1e-4, 1.0, 1.0) == [0, 1]
    # A value of the other end that is known narrows what is left, for nothing.
    assert chosen(0, 0, 0.3, 1e-4, 1e-4, 1.0, 1e-4) == [0, 1, 6]
