"""Bars and strip."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from rich.text import Text

from curvtool.report.bars import bar, bar_scale
from curvtool.report.heights import beyond_picture
from curvtool.report.spark import spark
from curvtool.report.strip import legend, strip
from curvtool.report.style import ASCII, UNICODE, Glyphs, Page
from tests import estimates

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


def heights(lines: list[Text], glyphs: Glyphs) -> list[list[tuple[int, int]]]:
    """Of every column of each side, from left: filled eighths, and eighths with the band."""
    rows = [line.plain for line in lines if line.plain[5:6] in {glyphs.origin, glyphs.upright}]
    wide = max(map(len, rows))
    cells = [row[6:].ljust(wide - 6) for row in rows]
    found = []
    for at in range(wide - 6):
        column = [row[at] for row in cells]
        solid = sum(max(glyphs.levels.find(cell), 0) for cell in column)
        found.append((solid, sum(cell != " " for cell in column)))
    return [found]


@given(st.integers(40, 118), st.integers(0, 5), st.booleans())
@settings(max_examples=30, deadline=None)
def test_the_picture_falls_away_from_zero_and_holds_the_counts(
    width: int, seed: int, unicode: bool
) -> None:
    found = estimates.density(seed=seed)
    page = Page(width=width, unicode=unicode)
    [columns] = heights(beyond_picture(found, page), page.glyphs)
    zero = (width - 6 - 1) // 2
    right = columns[zero + 1 :]
    assert right
    for solid in ([c[0] for c in right], [c[1] for c in right]):
        assert solid == sorted(solid, reverse=True)
    # One eigenvalue, the largest, is seen at the end; the band is open near zero alone.
    assert right[-1][0] >= 1
    assert right[0][1] * 8 > right[0][0]


def test_a_spectrum_of_one_sign_has_the_whole_width() -> None:
    found = estimates.density()
    beyond = found.beyond_interval.copy()
    beyond[0] = 0
    drawn = beyond_picture(estimates.density(beyond_interval=beyond), Page(width=80))
    labels = drawn[-2].plain
    assert labels[6] == "0"
    assert not any(label.startswith("-") for label in labels.split())


def test_what_was_taken_out_stands_over_its_place_on_the_axis() -> None:
    values = np.array([1.0, -1.0])
    found = estimates.density(deflated=values, deflated_errors=np.zeros(2))
    lines = [line.plain for line in beyond_picture(found, Page(width=76))]
    axis = next(line for line in lines if UNICODE.zero in line)
    marks = [at for at, cell in enumerate(lines[0]) if cell == UNICODE.pointer]
    ticks = [at for at, cell in enumerate(axis) if cell == UNICODE.tick]
    assert len(marks) == 2
    assert set(marks) <= set(ticks)  # powers of ten are labelled


@pytest.mark.parametrize("levels", [[], [1.0], [0.0, 1.0, 2.0], [1.0, 1.0, 1.0]])
def test_counts_without_extent_have_no_picture(levels: list[float]) -> None:
    t = len(levels)
    found = estimates.density(levels=np.array(levels), beyond_interval=np.ones((2, t, 2)))
    assert beyond_picture(found, Page(width=60)) == []


def test_less_than_a_tenth_of_an_eigenvalue_is_not_drawn() -> None:
    grid = np.linspace(-1, 1, 201)
    one = np.where(grid > 0, 0.02, 0.5) / 1000 / 0.1  # of 1000 eigenvalues, in a cell of 20
    found = estimates.density(size=1000, grid=grid, density=one, sigma=0.0)
    drawn = spark(found, 20, UNICODE).plain
    assert drawn[:10].strip()
    assert not drawn[11:].strip()


@given(st.integers(1, 60), st.booleans())
def test_a_spark_takes_all_its_cells(width: int, unicode: bool) -> None:
    glyphs = UNICODE if unicode else ASCII
    drawn = spark(estimates.density(), width, glyphs).plain
    assert len(drawn) == width
    assert set(drawn) <= set(glyphs.levels)
    assert glyphs.levels[8] in drawn


@pytest.mark.parametrize("grid", [[], [1.0], [2.0, 2.0], [0.0, np.nan]])
def test_a_density_without_extent_has_no_spark(grid: list[float]) -> None:
    found = estimates.density(grid=np.array(grid), density=np.ones(len(grid)))
    assert spark(found, 5, UNICODE).plain == " " * 5
