"""Figures as text: no more digits than are known, and no bound printed smaller than it is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal

# Enough for a sum of two doubles 1e-308 and 1e308 apart only in digits we keep; the ceiling
# keeps every bound a bound.
_UP = Context(prec=60, rounding=ROUND_CEILING)
_DOWN = Context(prec=60, rounding=ROUND_FLOOR)
_NEAREST = Context(prec=60, rounding=ROUND_HALF_EVEN)
_MOST_DIGITS = 10  # of a value, however small its bound
_WIDEST_FIXED = 18
UNKNOWN = "?"  # stands for an error of which nothing is known


def measured(value: float, error: float) -> tuple[Decimal, Decimal]:
    """Round a value to what its error bound justifies, and the bound upwards.

    The printed interval contains the interval given: what rounding the value moved it by is
    added to the bound before that is rounded up to one digit (two where the first is 1).

    Args:
        value: finite.
        error: a bound >= 0 on its distance from the truth; nan counts as infinite.

    Returns:
        Value and bound, both with the same last decimal place. An infinite bound leaves two
        digits of the value.
    """
    exact, bound = Decimal(repr(float(value))), Decimal(repr(float(error)))
    if not bound.is_finite():
        return _rounded(exact, exact.adjusted() - 1), Decimal("Infinity")
    place = _last_place(exact, bound)
    rounded = _rounded(exact, place)
    shown = _UP.add(bound, (exact - rounded).copy_abs())
    return rounded, _UP.quantize(shown, Decimal((0, (1,), place)))


def _last_place(value: Decimal, bound: Decimal) -> int:
    """Return the power of ten of the last digit that is worth printing."""
    finest = value.adjusted() - _MOST_DIGITS + 1 if value else None
    if not bound:
        shortest = value.normalize(_NEAREST).as_tuple().exponent
        assert isinstance(shortest, int)
        return shortest if finest is None else max(shortest, finest)
    two_digits = bound.as_tuple().digits[0] == 1
    place = bound.adjusted() - (1 if two_digits else 0)
    return place if finest is None else max(place, finest)


def _rounded(value: Decimal, place: int) -> Decimal:
    result = _NEAREST.quantize(value, Decimal((0, (1,), place)))
    return result or result.copy_abs()  # -0.0 would claim a sign


def measured_column(
    values: Iterable[float], errors: Iterable[float], widest: int = _WIDEST_FIXED
) -> list[tuple[str, str]]:
    """Format values and their bounds as two columns, aligned on the decimal point.

    The whole column is in scientific notation where its largest number is beyond 1e-3 .. 1e6,
    or where plain notation would be wide.

    Args:
        values: finite.
        errors: bounds, one per value.
        widest: cells of a number in plain notation, more of which are wide.

    Returns:
        A pair of strings per value; all first ones have one width, and all second ones.
    """
    rows = [measured(value, error) for value, error in zip(values, errors, strict=True)]
    plain = [(_fixed(value), _fixed(error)) for value, error in rows]
    size = max((float(max(abs(value), error)) for value, error in rows), default=0.0)
    fits = all(width <= widest for column in _columns(plain) for width in map(len, column))
    if not (fits and (size == 0.0 or 1e-3 <= size < 1e6)):
        plain = [(_scientific(value), _scientific(error)) for value, error in rows]
    return list(zip(*_columns(plain), strict=True))


def measured_or_dash(
    values: Iterable[float], errors: Iterable[float], dash: str, widest: int = _WIDEST_FIXED
) -> list[tuple[str, str]]:
    """Format as `measured_column` where there may be no figure.

    Args:
        values: not finite where there is none.
        errors: bounds, one per value; NaN where one is unknown.
        dash: stands for a value that is not there.
        widest: as of `measured_column`.

    Returns:
        A pair of strings per value, the second empty where there is no value.
    """
    rows = list(zip(values, errors, strict=True))
    known = [row for row in rows if math.isfinite(row[0])]
    # An unknown error says nothing of the digits: two are shown.
    bounds = [abs(value) / 20 if math.isnan(error) else error for value, error in known]
    texts = iter(measured_column([value for value, _ in known], bounds, widest))
    shown = [next(texts) if math.isfinite(value) else (dash, "") for value, _ in rows]
    return [
        (value, UNKNOWN if error and math.isnan(row[1]) else error)
        for (value, error), row in zip(shown, rows, strict=True)
    ]


def plus_minus(value: float, error: float, sign: str) -> str:
    """Format a value with its bound.

    Args:
        value: any float; one that is not finite is named.
        error: a bound >= 0; nan where it is unknown.
        sign: between the two.

    Returns:
        E.g. `12.80 ± 0.02`.
    """
    if not math.isfinite(value):
        return str(float(value))
    rounded, bound = measured(value, error)
    size = max(abs(rounded), bound) if bound.is_finite() else abs(rounded)
    text = _separated if size == 0 or Decimal("1e-3") <= size < 10**10 else _scientific
    return f"{text(rounded)} {sign} {UNKNOWN if math.isnan(error) else text(bound)}"


def interval(low: float, high: float) -> tuple[str, str]:
    """Format an interval; what is printed contains it.

    Args:
        low: its low end.
        high: its high end.

    Returns:
        Both ends with the digits that the width justifies; named where they are not finite.
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        return str(float(low)), str(float(high))
    ends = Decimal(repr(float(low))), Decimal(repr(float(high)))
    middle, half = _NEAREST.divide(sum(ends), 2), _UP.divide(ends[1] - ends[0], 2)
    place = Decimal((0, (1,), _last_place(middle, max(half, Decimal(0)))))
    shown = _DOWN.quantize(ends[0], place), _UP.quantize(ends[1], place)
    size = max(map(abs, shown))
    text = _separated if size == 0 or Decimal("1e-3") <= size < 10**10 else _scientific
    return text(shown[0]), text(shown[1])


def limits(low: float, high: float) -> tuple[str, str]:
    """Format limits that need not lie evenly about anything, outward, to two digits of their width.

    Args:
        low: the lower one.
        high: the upper one.

    Returns:
        Both; the same text twice only where they are equal. Named where they are not finite.
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        return str(float(low)), str(float(high))
    ends = Decimal(repr(float(low))), Decimal(repr(float(high)))
    width = _UP.subtract(ends[1], ends[0]).copy_abs()
    largest = max(ends, key=abs)
    if width:
        place = max(width.adjusted() - 1, largest.adjusted() - _MOST_DIGITS + 1)
    else:
        place = _last_place(largest, Decimal(0))
    unit = Decimal((0, (1,), place))
    shown = _DOWN.quantize(ends[0], unit), _UP.quantize(ends[1], unit)
    size = max(map(abs, shown))
    text = _separated if size == 0 or Decimal("1e-3") <= size < 10**10 else _scientific
    return text(shown[0]), text(shown[1])


def bound(number: float, unit: str = "") -> str:
    """Format a bound with two digits, rounded up, in plain notation where that is short.

    Args:
        number: >= 0; nan and infinity are named.
        unit: `%` for a share to be told in percent.

    Returns:
        E.g. `5.0`, `0.80 %`, `3.1e-05 %`.
    """
    end = f" {unit}" if unit else ""
    if not math.isfinite(number):
        return f"{float(number)}{end}"
    exact = Decimal(repr(float(number))).scaleb(2 if unit == "%" else 0)
    if not exact:
        return f"0{end}"
    shown = _UP.quantize(exact, Decimal((0, (1,), exact.adjusted() - 1)))
    plain = Decimal("1e-3") <= shown < 10**6
    return (_separated(shown) if plain else _scientific(shown)) + end


def short_bound(number: float) -> str:
    """Format a bound as `bound` does, without digits that are zero, e.g. `1e-4`.

    Args:
        number: >= 0.

    Returns:
        Text whose value is not below `number`.
    """
    if not math.isfinite(number) or number == 0:
        return f"{float(number):g}"
    exact = Decimal(repr(float(number)))
    shown = _UP.quantize(exact, Decimal((0, (1,), exact.adjusted() - 1))).normalize(_NEAREST)
    power = shown.adjusted()
    if power >= -2:
        return _separated(shown)
    return f"{_NEAREST.scaleb(shown, -power):f}e{power}"


def outward(number: float, *, up: bool) -> str:
    """Format a limit with four digits, never on its near side.

    Args:
        number: any float; one that is not finite is named.
        up: whether the limit may grow by the rounding, or shrink.

    Returns:
        E.g. `0.07195`.
    """
    if not math.isfinite(number):
        return str(float(number))
    exact = Decimal(repr(float(number)))
    if not exact:
        return "0"
    place = Decimal((0, (1,), exact.adjusted() - 3))
    shown = (_UP if up else _DOWN).quantize(exact, place).normalize(_NEAREST)
    plain = Decimal("1e-3") <= abs(shown) < 10**10
    return _separated(shown) if plain else _scientific(shown)


def products(number: float) -> str:
    """Format a number of products, which may be a part of one over all batches.

    Args:
        number: >= 0.

    Returns:
        E.g. `214`, `36.5`.
    """
    if not math.isfinite(number):
        return str(float(number))
    return count(int(number)) if number == int(number) else f"{number:,.1f}"


def _columns(rows: Sequence[tuple[str, str]]) -> tuple[list[str], list[str]]:
    return align([value for value, _ in rows]), align([error for _, error in rows])


def align(texts: Sequence[str]) -> list[str]:
    """Pad numbers so that their decimal points stand in one column.

    Args:
        texts: numbers, in plain or scientific notation.

    Returns:
        The same, all of one width.
    """
    parts = [_split(text) for text in texts]
    left = max((len(whole) for whole, _ in parts), default=0)
    right = max((len(rest) for _, rest in parts), default=0)
    return [whole.rjust(left) + rest.ljust(right) for whole, rest in parts]


def _split(text: str) -> tuple[str, str]:
    cut = min((at for at in (text.find("."), text.find("e")) if at >= 0), default=len(text))
    return text[:cut], text[cut:]


def _fixed(number: Decimal) -> str:
    return f"{number:f}" if number.is_finite() else "inf"


def _separated(number: Decimal) -> str:
    return f"{number:,f}" if number.is_finite() else "inf"


def _scientific(number: Decimal) -> str:
    if not number.is_finite():
        return "inf"
    if not number:
        return "0"
    power = number.adjusted()
    return f"{_NEAREST.scaleb(number, -power):f}e{power:+03d}"


def upper(number: float) -> str:
    """Format a bound or a defect with two digits, rounded up, e.g. `1.7e-05`.

    Args:
        number: >= 0; nan and infinity are named.

    Returns:
        Text whose value is not below `number`.
    """
    if not math.isfinite(number):
        return str(float(number))
    exact = Decimal(repr(float(number)))
    if not exact:
        return "0"
    return _scientific(_UP.quantize(exact, Decimal((0, (1,), exact.adjusted() - 1))))


def count(number: int) -> str:
    """Format a count with separated thousands, e.g. `11,173,962`."""
    return f"{number:,}"


def counted(number: int, noun: str) -> str:
    """Format a count of things.

    Args:
        number: how many.
        noun: singular; its plural takes an s, es after ch, ies for y after r.

    Returns:
        E.g. `1 batch`, `98 batches`.
    """
    plural = noun[:-1] + "ies" if noun.endswith("ry") else noun + "s"
    plural = noun + "es" if noun.endswith("ch") else plural
    return f"{count(number)} {noun if number == 1 else plural}"


def memory(number: int) -> str:
    """Format a number of bytes in binary units.

    Args:
        number: bytes.

    Returns:
        E.g. `512 B`, `5.3 GiB`.
    """
    size = float(number)
    units = ["TiB", "GiB", "MiB", "KiB", "B"]
    while size >= 1023.5 and len(units) > 1:
        size /= 1024
        units.pop()
    digits = 0 if units[-1] == "B" or size >= 99.95 else 1
    return f"{size:,.{digits}f} {units[-1]}"


def duration(seconds: float) -> str:
    """Format a time span with two or three digits.

    Args:
        seconds: >= 0; nan and infinity are named.

    Returns:
        E.g. `12 ms`, `4.7 s`, `3 min 12 s`, `2 h 05 min`.
    """
    if not math.isfinite(seconds):
        return f"{seconds} s"
    if seconds < 0.9995:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    hours = round(seconds / 3600)
    return f"{count(hours // 24)} d {hours % 24:02d} h"


def figure(number: float) -> str:
    """Format a figure without a bound to four digits, e.g. `0.02131`, `1.2e-09`."""
    return f"{number:.4g}"


def below(number: float) -> str:
    """Format a lower limit with three digits, rounded down; named where it is not finite."""
    return _three(number, _DOWN)


def above(number: float) -> str:
    """Format an upper limit with three digits, rounded up; named where it is not finite."""
    return _three(number, _UP)


def _three(number: float, context: Context) -> str:
    if not math.isfinite(number):
        return str(float(number))
    exact = Decimal(repr(float(number)))
    if not exact:
        return "0"
    rounded = context.quantize(exact, Decimal((0, (1,), exact.adjusted() - 2)))
    return f"{float(rounded):.3g}"
