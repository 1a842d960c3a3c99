"""Plain aligned tables of the benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bench_common import Row

Column = tuple[str, Callable[[Row], str]]


def number(name: str, form: str = ".3g", scale: float = 1.0) -> Callable[[Row], str]:
    """A value of a row, empty where it has none."""

    def shown(row: Row) -> str:
        value = row.get(name)
        return "" if value is None else format(value if scale == 1 else value * scale, form)

    return shown


def word(name: str) -> Callable[[Row], str]:
    """A word of a row; a list is joined."""

    def shown(row: Row) -> str:
        value: Any = row.get(name, "")
        return "; ".join(map(str, value)) if isinstance(value, list) else str(value)

    return shown


def remark(row: Row) -> str:
    """Why there are no figures, or what a reader has to know of them."""
    return str(row.get("reason") or row.get("note") or "")


def _pooled_range(row: Row) -> str:
    if row.get("runs", 1) < 2:
        return ""
    return f"{row['low']:.2f}-{row['high']:.2f}"


PRODUCT: list[Column] = [
    ("model", word("model")),
    ("tool", word("tool")),
    ("ms", number("seconds", ".1f", 1e3)),
    ("spread", number("spread", ".1%")),
    ("gradients", number("gradients", ".2f")),
    ("over processes", _pooled_range),
    ("with setup", number("gradients_amortised", ".2f")),
    ("setup s", number("setup_seconds", ".1f")),
    ("rel. error", number("error", ".1e")),
    ("", remark),
]
RATIO: list[Column] = [
    ("model", word("model")),
    ("times faster than", word("peer")),
    ("retained-graph", number("retained-graph", ".2f")),
    ("compiled", number("compiled", ".2f")),
    ("auto", number("auto", ".2f")),
]
SOLVE: list[Column] = [
    ("model", word("model")),
    ("beside", word("peer")),
    ("tool", word("tool")),
    ("k", number("k", "d")),
    ("s", number("seconds", ".1f")),
    ("spread", number("spread", ".1%")),
    ("times", number("times", ".2f")),
    ("products", number("products", "d")),
    ("residual", number("residual", ".1e")),
    ("fair", lambda row: {True: "yes", False: "NO"}.get(row.get("fair", ""), "")),
    ("copies", number("copies", "d")),
    ("differs", number("differs", ".1e")),
    ("", remark),
]
OVERHEAD: list[Column] = [
    ("model", word("model")),
    ("way", word("tool")),
    ("basis", number("basis", "d")),
    ("products", number("products", "d")),
    ("solve s", number("solve_seconds", ".2f")),
    ("in products s", number("product_seconds", ".2f")),
    ("run file s", number("output_seconds", ".2f")),
    ("outside", number("share", ".1%")),
    ("whole run s", number("run_seconds", ".2f")),
    ("before the solve s", number("before_seconds", ".2f")),
    ("preflight s", number("preflight_seconds", ".2f")),
    ("planning s", number("planning_seconds", ".2f")),
    ("", remark),
]
GROWTH: list[Column] = [
    ("model", word("model")),
    ("axis", word("axis")),
    ("size", number("size", ",")),
    ("s", number("seconds", ".3f")),
    ("spread", number("spread", ".1%")),
    ("products", number("products", "d")),
    ("exponent", number("exponent", ".2f")),
    ("", remark),
]
MEMORY: list[Column] = [
    ("model", word("model")),
    ("--memory MiB", number("limit", ".0f", 2.0**-20)),
    ("peak MiB", number("peak", ".0f", 2.0**-20)),
    ("peak / limit", number("ratio", ".2f")),
    ("forecast MiB", number("forecast", ".0f", 2.0**-20)),
    ("way", word("way")),
    ("kept", number("batches_kept", "d")),
    ("of", number("batches", "d")),
    ("products", number("products", "d")),
    ("adjusted", word("adjustments")),
    ("", remark),
]


def table(title: str, columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """Draw a table; columns that are empty in every row are left out."""
    cells = [[shown(row) for _, shown in columns] for row in rows]
    used = [j for j in range(len(columns)) if any(line[j] for line in cells)]
    lines = [[columns[j][0] for j in used], *([line[j] for j in used] for line in cells)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(used))]
    texts = {columns[j][0] for j in used if _is_text(cells, j)}
    drawn = []
    for line in lines:
        parts = [
            part.ljust(width) if columns[j][0] in texts else part.rjust(width)
            for part, width, j in zip(line, widths, used, strict=True)
        ]
        drawn.append("  ".join(parts).rstrip())
    return "\n".join([title, *drawn, ""])


def _is_text(cells: Sequence[Sequence[str]], column: int) -> bool:
    return any(line[column][:1].isalpha() for line in cells)
