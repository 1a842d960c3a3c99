"""Bars and strip."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from curvtool.report.bars import bar, bar_scale
from curvtool.report.strip import legend, strip
from curvtool.report.style import ASCII, UNICODE

FINITE = st.floats(-1e30, 1e30)
SPECTRA = st.lists(FINITE, min_size=1, max_size=20)


@given(SPECTRA, st.integers(3, 60), st.booleans())
def test_every_bar_takes_the_whole_width_and_shows_the_sign(
    values: list[float], width: int, known: bool
) -> None:
    scale = bar_scale(np.array(values), np.zeros(len(values)), width)
    for value in values:
        drawn = bar(value, scale, ASCII, known=known).plain
        assert len(drawn) == width
        left, right = drawn[: scale.left], drawn[scale.left + 1 :]
        assert (not left.isspace() and left != "") == (value < 0)
        assert (not right.isspace() and right != "") == (value > 0)


@given(SPECTRA, st.integers(3, 60))
def test_bars_are_as_ordered_as_the_values(values: list[float], width: int) -> None:
    scale = bar_scale(np.array(values), np.zeros(len(values)), width)
    for sign in (1, -1):
        side = sorted(abs(value) for value in values if value * sign > 0)
        lengths = [
            bar(sign * value, scale, ASCII, known=True).plain.count(ASCII.bar) for value in side
        ]
        assert lengths == sorted(lengths)


def test_lengths_on_a_linear_scale_are_proportional() -> None:
    values = np.array([10.0, 5.0, -5.0, 2.5])
    scale = bar_scale(values, np.zeros(4), 31)
    assert not scale.logarithmic
    drawn = [bar(value, scale, UNICODE, known=True).plain for value in values]
    assert (scale.left, scale.right) == (10, 20)
    assert [text.count("━") for text in drawn] == [20, 10, 10, 5]


def test_a_wide_range_is_logarithmic_but_noise_does_not_make_it_wide() -> None:
    values = np.array([10.0, 1e-3])
    assert bar_scale(values, np.zeros(2), 30).logarithmic
    assert not bar_scale(values, np.full(2, 0.1), 30).logarithmic


def test_an_unconverged_bar_is_hollow() -> None:
    scale = bar_scale(np.array([2.0]), np.zeros(1), 10)
    assert UNICODE.bar not in bar(2.0, scale, UNICODE, known=False).plain


@given(SPECTRA, st.integers(20, 120), st.data())
def test_the_strip_marks_every_value_and_zero(
    values: list[float], width: int, data: st.DataObject
) -> None:
    converged = np.array([data.draw(st.booleans()) for _ in values])
    lines = strip(np.array(values), converged, width, UNICODE)
    assume(lines)
    marks, axis, labels = (line.plain for line in lines)
    assert len(marks) == len(axis) == width
    assert len(labels) <= width
    assert axis.count(UNICODE.zero) == 1
    assert 0 < sum(not mark.isspace() for mark in marks) <= len(values)
    low, high = min(0.0, *values), max(0.0, *values)
    for value, known in zip(values, converged, strict=True):
        mark = marks[round((value - low) / (high - low) * (width - 1))]
        assert mark in {UNICODE.mark, UNICODE.marks, UNICODE.open_mark}
        assert known or mark == UNICODE.open_mark


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_zero_is_labelled_under_its_mark(scale: float) -> None:
    _, axis, labels = strip(np.array([-3.0, 7.0]) * scale, np.ones(2, bool), 80, UNICODE)
    assert labels.plain[axis.plain.index(UNICODE.zero)] == "0"


def test_a_spectrum_of_zeros_has_no_strip() -> None:
    assert strip(np.zeros(3), np.ones(3, bool), 80, UNICODE) == []


def test_the_legend_names_only_what_is_drawn() -> None:
    two = np.array([1.0, 2.0])
    assert legend(two, np.ones(2, bool), 80, UNICODE).plain == ""
    assert "not converged" in legend(two, np.array([True, False]), 80, UNICODE).plain
    assert "several" in legend(np.ones(2), np.ones(2, bool), 80, UNICODE).plain
