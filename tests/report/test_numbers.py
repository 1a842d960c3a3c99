from __future__ import annotations

import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curvtool.report import numbers

VALUES = st.floats(allow_nan=False, allow_infinity=False)
BOUNDS = st.floats(min_value=0, allow_nan=False, allow_infinity=False)


@given(VALUES, BOUNDS)
def test_the_printed_interval_contains_the_known_one(value: float, error: float) -> None:
    printed, bound = numbers.measured(value, error)
    assert bound >= Decimal(repr(error)) + abs(Decimal(repr(value)) - printed)


@given(VALUES, BOUNDS)
def test_the_value_is_within_half_a_unit_of_its_last_place(value: float, error: float) -> None:
    printed, bound = numbers.measured(value, error)
    place = printed.as_tuple().exponent
    assert isinstance(place, int)
    assert abs(Decimal(repr(value)) - printed) <= Decimal((0, (5,), place - 1))
    assert bound.as_tuple().exponent == place


@given(VALUES, st.floats(min_value=1e-300, max_value=1e300))
def test_no_digit_is_printed_that_the_bound_drowns(value: float, error: float) -> None:
    printed, _ = numbers.measured(value, error)
    place = printed.as_tuple().exponent
    assert isinstance(place, int)
    # One digit of the bound, or two where its first is 1: its last place is within 1/20 of it.
    assert Decimal((0, (1,), place)) >= Decimal(repr(error)) / 20


@pytest.mark.parametrize(
    ("value", "error", "printed"),
    [
        (12.8034, 0.0002, ("12.8034", "0.0002")),
        (12.80343, 0.0002, ("12.8034", "0.0003")),  # 0.0002 and the 0.00003 that was cut
        (-3.0, 0.00011, ("-3.00000", "0.00011")),
        (0.1, 4.0, ("0", "5")),
        (-0.1, 4.0, ("0", "5")),
        (9.96, 0.06, ("9.96", "0.06")),
        (0.0, 0.0, ("0", "0")),
        (3.0, 0.0, ("3", "0")),
        (1234.5, 200.0, ("1.2E+3", "3E+2")),
        (5.0, math.inf, ("5.0", "Infinity")),
        (5.0, math.nan, ("5.0", "Infinity")),
    ],
)
def test_examples(value: float, error: float, printed: tuple[str, str]) -> None:
    assert tuple(map(str, numbers.measured(value, error))) == printed


@given(st.lists(st.tuples(VALUES, BOUNDS), max_size=6))
def test_a_column_has_one_width_and_its_texts_are_the_measured_numbers(
    rows: list[tuple[float, float]],
) -> None:
    column = numbers.measured_column([v for v, _ in rows], [e for _, e in rows])
    assert len({(len(value), len(error)) for value, error in column}) <= 1
    for (value, error), (shown, bound) in zip(rows, column, strict=True):
        assert tuple(map(Decimal, (shown, bound))) == numbers.measured(value, error)


@given(st.lists(st.tuples(VALUES, BOUNDS), min_size=1, max_size=6))
def test_a_column_is_narrow(rows: list[tuple[float, float]]) -> None:
    # 10 digits, sign, point, and an exponent of 5; plus the misalignment of points.
    value, error = numbers.measured_column([v for v, _ in rows], [e for _, e in rows])[0]
    assert len(value) <= 18
    assert len(error) <= 18


def test_decimal_points_are_aligned() -> None:
    column = numbers.measured_column([12.8034, -3.0, 100.5], [2e-4, 0.5, 0.03])
    assert column == [
        (" 12.8034", "0.0002"),
        (" -3.0   ", "0.5   "),
        ("100.50  ", "0.03  "),
    ]


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_extreme_columns_are_scientific(scale: float) -> None:
    column = numbers.measured_column([1.5 * scale, 0.0], [2e-4 * scale, 3e-4 * scale])
    power = "-30" if scale < 1 else "+30"
    assert column[0][0] == f"1.5000e{power}"
    assert column[1][0].strip() == "0"


@given(st.floats(min_value=0))
def test_upper_is_an_upper_bound_of_two_digits(number: float) -> None:
    shown = float(numbers.upper(number))
    assert shown >= number
    if 1e-300 < number < 1e300:
        assert shown <= number * 1.1000001  # 10 % is one unit of two digits, at most


@given(st.integers(0, 2**70))
def test_memory_is_within_its_rounding(number: int) -> None:
    text, unit = numbers.memory(number).split()
    size = float(text.replace(",", "")) * 1024 ** ["B", "KiB", "MiB", "GiB", "TiB"].index(unit)
    assert abs(size - number) <= 0.06 * number


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 ms"),
        (0.4664, "466 ms"),
        (0.99951, "1.0 s"),
        (59.96, "1 min 00 s"),
        (192.4, "3 min 12 s"),
        (3599.7, "1 h 00 min"),
        (7500.0, "2 h 05 min"),
        (86_399.0, "1 d 00 h"),
        (360_000.0, "4 d 04 h"),
        (math.nan, "nan s"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert numbers.duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [(1, "batch", "1 batch"), (1200, "batch", "1,200 batches"), (0, "example", "0 examples")],
)
def test_counted(number: int, noun: str, text: str) -> None:
    assert numbers.counted(number, noun) == text


def number(text: str) -> Decimal:
    return Decimal(text.replace(",", ""))


@given(VALUES, BOUNDS)
def test_a_value_with_its_bound_contains_the_known_interval(value: float, error: float) -> None:
    shown, sign, bound = numbers.plus_minus(value, error, "±").split(" ")
    assert sign == "±"
    low, high = (
        Decimal(repr(value)) - Decimal(repr(error)),
        Decimal(repr(value)) + Decimal(repr(error)),
    )
    assert number(shown) - number(bound) <= low
    assert high <= number(shown) + number(bound)


@given(VALUES, BOUNDS)
def test_the_printed_ends_contain_the_interval(value: float, width: float) -> None:
    high = value + width
    if not math.isfinite(high):
        return
    ends = numbers.interval(value, high)
    assert number(ends[0]) <= Decimal(repr(value))
    assert Decimal(repr(high)) <= number(ends[1])


@given(BOUNDS)
def test_a_printed_bound_is_none_below_the_given_one(error: float) -> None:
    assert number(numbers.bound(error)) >= Decimal(repr(error))
    percent = numbers.bound(error, "%").removesuffix(" %")
    assert number(percent) >= Decimal(repr(error)).scaleb(2)


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (1241.2, 9.6, "1,241 ± 10"),
        (240_113.0, 9_120.0, "240,000 ± 10,000"),
        (1.11e-4, 1e-6, "1.110e-04 ± 1.0e-06"),
        (5.0, math.nan, "5.0 ± ?"),
        (5.0, math.inf, "5.0 ± inf"),
        (math.nan, 1.0, "nan"),
        (0.0, 0.0, "0 ± 0"),
    ],
)
def test_values_with_their_bounds(value: float, error: float, text: str) -> None:
    assert numbers.plus_minus(value, error, "±") == text


def test_an_unknown_error_leaves_the_others_aligned() -> None:
    shown = numbers.measured_or_dash([10.0, math.nan, 2.5], [0.5, 1.0, math.nan], "–")
    assert shown == [("10.0 ", "0.5 "), ("–", ""), (" 2.50", "?")]


@pytest.mark.parametrize(("count", "text"), [(214.0, "214"), (36.5, "36.5"), (1e4, "10,000")])
def test_parts_of_products_are_told_to_a_tenth(count: float, text: str) -> None:
    assert numbers.products(count) == text
