"""Which pairs meet their tolerance, which stop at the floor, and how many products that takes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from curvtool.algorithms.certificate import COMBINATIONS, Certificate, Listed
from curvtool.algorithms.judging import (
    NOTHING,
    Judged,
    allowed_errors,
    judged,
    of_upper_end,
    outcome_of,
    products_of_certificate,
)
from curvtool.algorithms.settings import EigenSettings, Which
from curvtool.operators.base import Counted
from curvtool.results import WHOLE_MATRIX, Certification, FloatArray, Outcome, unproved
from tests.algorithms.matrices import EPS64, Known, rotated

P = 80
SETTINGS = EigenSettings(k=6, which="LA", tol=1e-4, noise=10 * EPS64)
SPECTRUM = np.concatenate([2.0 ** -np.arange(8), np.linspace(-0.001, 0.001, P - 8)])


def _certificate(
    known: Known,
    k: int,
    *,
    defect: FloatArray | float = 0.0,
    coupling: float = 1e-6,
    shift: float = 0.0,
    dtype: torch.dtype = torch.float64,
) -> tuple[Certificate, Counted, dict[bool, FloatArray]]:
    """Tilted eigenvectors; the recurrence errs in their residuals, and in the last value."""
    rng = np.random.default_rng(k)
    H = known.matrix.double().numpy()
    lam, U = np.linalg.eigh(H)
    Y = np.linalg.qr(U[:, ::-1][:, :k] + coupling * rng.standard_normal((P, k)))[0]
    theta, S = np.linalg.eigh(Y.T @ H @ Y)
    Y, theta = (Y @ S)[:, ::-1], theta[::-1].copy()
    residual = H @ Y - Y * theta
    off = rng.standard_normal((P, k))
    off -= Y @ (Y.T @ off)
    claimed = residual + defect * off / np.linalg.norm(off, axis=0)
    Q, R = np.linalg.qr(claimed)
    theta[-1] += shift
    counted = Counted(known.reference)
    certificate = Certificate(
        counted if dtype == torch.float64 else known.operator,
        Listed(
            torch.from_numpy(Y.T.copy()),
            np.eye(k),
            theta,
            torch.from_numpy(Q.T.copy()),
            R,
        ),
        tol=SETTINGS.tol,
        largest=1.0,
        rounding=SETTINGS.noise,
        seed=0,
    )
    return certificate, counted, {True: lam[::-1][: k + 1]}


def _judged(
    known: Known, k: int, *, left: float = 100, solve: int = 0, **more: object
) -> tuple[Judged, int]:
    changes = {name: more.pop(name) for name in list(more) if hasattr(SETTINGS, name)}
    certificate, counted, limits = _certificate(known, k, **more)  # type: ignore[arg-type]
    settings = replace(SETTINGS, k=k, **changes)  # type: ignore[arg-type]
    pairs = judged(certificate, settings, limits, left=left, solve=solve)
    assert certificate.products <= left
    truth = known.truth("LA", k)
    own = P * EPS64  # of the dense truth
    assert (np.abs(pairs.theta - truth) <= pairs.errors + own).all()
    assert (pairs.met == (pairs.errors <= SETTINGS.tol * np.abs(pairs.theta))).all()
    assert not (pairs.met & pairs.at_floor).any()
    return pairs, counted.calls


@pytest.fixture(scope="module")
def known() -> Known:
    return rotated(SPECTRUM, seed=0)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_few_pairs_are_multiplied_one_by_one(known: Known, k: int) -> None:
    pairs, products = _judged(known, k)
    assert products == k == products_of_certificate(SETTINGS, k)
    assert pairs.certification is Certification.BLOCK
    assert pairs.met.all()


def test_of_more_a_sketch_is_made_and_nothing_else_where_it_suffices(known: Known) -> None:
    pairs, products = _judged(known, 6)
    assert products == COMBINATIONS == products_of_certificate(SETTINGS, 6)
    assert pairs.certification is Certification.SKETCH
    assert pairs.met.all()


def test_every_pair_is_multiplied_where_that_is_asked_for(known: Known) -> None:
    pairs, products = _judged(known, 6, certify_fully=True)
    assert products == 6
    assert pairs.certification is Certification.BLOCK


def test_what_a_sketch_leaves_open_is_multiplied(known: Known) -> None:
    """The last value is off by a third of its tolerance: 4.45 times that is too much."""
    pairs, products = _judged(known, 6, shift=SETTINGS.tol / 32 / 3)
    assert products == COMBINATIONS + 1
    assert pairs.certification is Certification.SKETCH_AND_PAIRS
    assert pairs.met.all()


@pytest.mark.parametrize(("solve", "single"), [(0, 2), (30, 3), (1000, 6)])
def test_single_products_are_a_tenth_of_the_solves_unless_the_tolerance_was_asked_for(
    known: Known, solve: int, single: int
) -> None:
    """Every residual is so much longer than the recurrence has it that no sketch suffices."""
    defect = 3e-3 * known.truth("LA", 6)
    _, products = _judged(known, 6, defect=defect, solve=solve)
    assert products == COMBINATIONS + single
    pairs, products = _judged(known, 6, defect=defect, solve=solve, strict=True)
    assert products == COMBINATIONS + 6
    assert pairs.certification is Certification.BLOCK
    assert pairs.met.all()


def test_what_noise_keeps_from_the_tolerance_is_at_the_floor(known: Known) -> None:
    """The recurrence would have met it; products say otherwise, and are exact."""
    single = rotated(SPECTRUM, seed=0, dtype=torch.float32)
    certificate, _, limits = _certificate(single, 4, coupling=0.02, defect=0.0)
    claimed = Listed(
        certificate.listed.V,
        certificate.listed.S,
        certificate.listed.theta,
        certificate.listed.Q,
        0 * certificate.listed.Z,
    )
    exact = Certificate(
        single.reference, claimed, tol=1e-4, largest=1.0, rounding=10 * EPS64, seed=0
    )
    pairs = judged(exact, replace(SETTINGS, k=4), limits, left=100, solve=0)
    assert pairs.at_floor.any()
    assert (pairs.at_floor | pairs.met).all()
    assert outcome_of(pairs, WHOLE_MATRIX, SETTINGS, enough=True, spent=False) is Outcome.FLOOR
    # With the recurrence's own residuals more steps are what is lacking.
    open_ = judged(certificate, replace(SETTINGS, k=4), limits, left=100, solve=0)
    assert not open_.at_floor.any()
    assert not open_.met.all()
    end = outcome_of(open_, WHOLE_MATRIX, SETTINGS, enough=True, spent=False)
    assert end is Outcome.STAGNATED


def test_without_float64_bounds_are_of_the_products_own_matrix() -> None:
    single = rotated(SPECTRUM, seed=0, dtype=torch.float32)
    pairs, _ = _judged(single, 4, dtype=torch.float32, coupling=1e-4)
    assert pairs.certification is Certification.OWN_PRODUCTS


@pytest.mark.parametrize("left", [1, 2, 3, 4, 5, 6, 7, 9])
def test_no_more_products_are_made_than_are_left(known: Known, left: int) -> None:
    for k in (3, 6):
        for fully in (False, True):
            defect = np.full(k, 1e-2)
            _, products = _judged(
                known, k, left=left, defect=defect, certify_fully=fully, strict=True
            )
            assert products <= left


def test_pairs_that_are_known_need_nothing_more(known: Known) -> None:
    certificate, counted, limits = _certificate(known, 6)
    certificate.multiply(np.ones(6, dtype=bool))
    settings = replace(SETTINGS, certify_fully=True)
    pairs = judged(certificate, settings, limits, left=0, solve=0)
    assert counted.calls == 6
    assert pairs.certification is Certification.BLOCK
    assert pairs.met.all()


def test_vectors_are_held_by_their_residuals(known: Known) -> None:
    certificate, _, limits = _certificate(known, 4, coupling=3e-4)
    values = judged(certificate, replace(SETTINGS, k=4), limits, left=9, solve=0)
    vectors = judged(
        certificate, replace(SETTINGS, k=4, accuracy="vectors"), limits, left=9, solve=0
    )
    assert values.met.all()
    assert not vectors.met.any()
    assert (vectors.norms > SETTINGS.tol * np.abs(vectors.theta)).all()
    assert (values.errors == vectors.errors).all()


def test_without_limits_a_gap_is_nobodys(known: Known) -> None:
    certificate, _, limits = _certificate(known, 4, coupling=1e-3)
    settings = replace(SETTINGS, k=4)
    proved = judged(certificate, settings, limits, left=9, solve=0)
    alone = judged(certificate, settings, {}, left=9, solve=0)
    assert (alone.errors == alone.norms).all()
    assert (proved.errors < 0.1 * alone.errors).all()


def test_a_doubt_enters_every_error_and_no_products_lessen_it(known: Known) -> None:
    without, _ = _judged(known, 4)
    pairs, products = _judged(known, 4, doubt=1e-3)
    np.testing.assert_allclose(pairs.errors - without.errors, 1e-3, rtol=1e-9)
    np.testing.assert_allclose(pairs.norms - without.norms, 1e-3, rtol=1e-9)
    assert products == 4
    assert pairs.at_floor.all()


def test_a_zero_value_meets_its_tolerance_at_nothing_of_the_largest() -> None:
    allowed = allowed_errors(np.array([0.0, 1.0]), SETTINGS, largest=5.0)
    assert list(allowed) == [NOTHING * 5.0, 1e-4]


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ("LM", [True, False, True, True]),
        ("LA", [True] * 4),
        ("SA", [False] * 4),
        ("BE", [True, False, True, False]),
    ],
)
def test_ends_of_a_list(which: Which, expected: list[bool]) -> None:
    assert list(of_upper_end(np.array([3.0, -2.0, 1.0, 0.0]), which)) == expected


def _pairs(met: list[bool], at_floor: list[bool]) -> Judged:
    none = np.zeros(len(met))
    return Judged(
        none, none, none, np.array(met), np.array(at_floor), none[None], Certification.BLOCK
    )


MET, FLOOR = ([True, True], [False, False]), ([True, False], [False, True])
OPEN = ([True, False], [False, False])


@pytest.mark.parametrize(
    ("pairs", "proved", "complete", "enough", "spent", "expected"),
    [
        (MET, True, False, True, False, Outcome.CONVERGED),
        (MET, False, False, True, True, Outcome.CONVERGED),
        (MET, True, True, True, False, Outcome.CONVERGED),
        (MET, False, True, True, False, Outcome.INCOMPLETE),
        (FLOOR, True, False, True, False, Outcome.FLOOR),
        (FLOOR, False, True, True, False, Outcome.INCOMPLETE),
        (OPEN, True, False, True, False, Outcome.STAGNATED),
        (OPEN, True, False, True, True, Outcome.MAX_HVPS),
        (OPEN, False, True, True, True, Outcome.MAX_HVPS),
        (MET, True, False, False, False, Outcome.MAX_HVPS),
    ],
)
def test_how_a_solve_ends(
    pairs: tuple[list[bool], list[bool]],
    proved: bool,
    complete: bool,
    enough: bool,
    spent: bool,
    expected: Outcome,
) -> None:
    proof = WHOLE_MATRIX if proved else unproved("it was not")
    settings = replace(SETTINGS, complete=complete)
    assert outcome_of(_pairs(*pairs), proof, settings, enough=enough, spent=spent) is expected
