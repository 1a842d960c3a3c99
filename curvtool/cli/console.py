"""The consoles: results on stdout, words about the run on stderr."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def result_console() -> Console:
    """The console that results are printed on."""
    from rich.console import Console

    return Console(file=sys.stdout, highlight=False)


def say(sentence: str) -> None:
    """A line about the run."""
    sys.stderr.write(f"curvtool: {sentence}\n")
    sys.stderr.flush()
