"""Paths in the order that a reader expects."""

from __future__ import annotations

import re
from pathlib import Path


def by_numbers(path: Path) -> list[tuple[int, str]]:
    """A key by which `step_200` comes before `step_1000`.

    Args:
        path: to be sorted.

    Returns:
        Its text in parts, numbers by their value.
    """
    parts = re.split(r"([0-9]+)", str(path))
    return [(int(part), part) if i % 2 else (0, part) for i, part in enumerate(parts)]
