"""Normal numbers against the formula that they are to follow, word by word."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from curvtool.random_vectors.normals import AT_ONCE, Normals

LARGEST = math.sqrt(-2 * math.log(2.0**-33))
# Where a branch begins or ends: u next to 0, 1/2 and 1, the angle next to 0 and to either end.
EDGES = [0, 1, 2, 2**30 - 1, 2**30, 2**31 - 1, 2**31, 2**31 + 1, 3 * 2**30, 2**32 - 2, 2**32 - 1]


def made(words: NDArray[np.uint64], *, double: bool) -> NDArray[np.float64]:
    transform = Normals(double=double, most=len(words))
    out = np.empty(2 * len(words), transform.dtype)
    transform(words, out)
    return out.astype(np.float64)


def expected(word: int) -> tuple[float, float]:
    """The definition: u of the upper half, sign and angle of the lower."""
    upper, lower = divmod(word, 2**32)
    u = (upper + 0.5) / 2**32
    radius = math.sqrt(-2 * math.log(u)) * (-1 if lower >= 2**31 else 1)
    rest = (2 * lower) % 2**32
    angle = (rest - 2**32 if rest >= 2**31 else rest) * math.pi / 2**32
    return radius * math.cos(angle), radius * math.sin(angle)


def check(words: list[int]) -> None:
    given_words = np.array(words, dtype=np.uint64)
    truth = np.array([each for word in words for each in expected(word)])
    radius = np.repeat(np.hypot(truth[0::2], truth[1::2]), 2)
    # Of r: some thirty roundings of the logarithm's series, halved by the root; a few of the angle,
    # which moves a number by r times itself. Radii below 2^-16 come of u - 1, exact by design.
    for double, eps in ((True, 2.0**-52), (False, 2.0**-23)):
        off = np.abs(made(given_words, double=double) - truth)
        assert (off <= 8 * eps * radius).all()


def test_numbers_follow_the_formula_at_every_edge() -> None:
    check([upper * 2**32 + lower for upper in EDGES for lower in EDGES])


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=40))
def test_numbers_follow_the_formula(words: list[int]) -> None:
    check(words)


def scalar(word: int) -> tuple[float, float]:
    """The same operations in the same order, one at a time, in Python's own floats."""
    upper, lower = divmod(word, 2**32)
    if upper >= 2**31:
        exponent, t = 0, (upper - 2**32 + 0.5) * 2.0**-32
    else:
        mantissa, exponent = math.frexp((upper + 0.5) * 2.0**-32)
        t = mantissa - 1
    y = t / (t + 2)
    radius = exponent * (-2 * math.log(2)) + _horner([-4 / (2 * k + 1) for k in range(16)], y) * y
    radius = math.copysign(math.sqrt(radius), 1 if lower < 2**31 else -1)
    rest = (2 * lower) % 2**32
    a = (rest - 2**32 if rest >= 2**31 else rest) * (math.pi * 2.0**-32)
    cosine = _horner([(-1) ** k / math.factorial(2 * k) for k in range(11)], a)
    sine = _horner([(-1) ** k / math.factorial(2 * k + 1) for k in range(10)], a) * a
    return cosine * radius, sine * radius


def _horner(coefficients: list[float], x: float) -> float:
    """Of x^2."""
    found = 0.0
    for each in reversed(coefficients):
        found = found * (x * x) + each
    return found


def test_no_operation_is_left_to_a_library() -> None:
    """To the bit: nothing is fused, reordered, or looked up."""
    words = np.random.Philox(key=2).random_raw(3000)
    edges = np.array([u * 2**32 + a for u in EDGES for a in EDGES], dtype=np.uint64)
    words = np.concatenate([words, edges])
    expected_bits = [each for word in words.tolist() for each in scalar(word)]
    assert made(words, double=True).tolist() == expected_bits


@pytest.mark.parametrize("double", [True, False])
def test_a_word_gives_the_same_numbers_wherever_it_stands(double: bool) -> None:
    """Vector instructions do what scalar ones do, at any alignment."""
    words = np.random.Philox(key=1).random_raw(AT_ONCE)
    whole = made(words, double=double)
    for at in (0, 1, 7, 4096, AT_ONCE - 1):
        assert (made(words[at : at + 1], double=double) == whole[2 * at : 2 * at + 2]).all()
    assert (made(words[3:1000], double=double) == whole[6:2000]).all()


def test_no_number_is_larger_than_the_least_u_allows() -> None:
    words = np.array([lower for lower in EDGES], dtype=np.uint64)  # the upper half is zero
    found = np.abs(made(words, double=True))
    assert found.max() == pytest.approx(LARGEST, rel=1e-14)
    assert 6.7 < LARGEST < 6.8
