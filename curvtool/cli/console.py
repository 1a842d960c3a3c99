"""The consoles: results on stdout, words about the run on stderr."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from curvtool.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

# Characters; the longest sentence of our own has some 700.
_MOST_LINE = 2000
_silent = False


def result_console() -> Console:
    """The console that results are printed on."""
    from rich.console import Console

    class ResultConsole(Console):
        """Falls silent where nobody reads on, as in `curvtool show run.h5 | head -1`."""

        def on_broken_pipe(self) -> None:
            """Called by rich, which would end the process with exit code 1."""
            self.quiet = True
            silence_stdout()

    return ResultConsole(file=sys.stdout, highlight=False)


@contextlib.contextmanager
def printing() -> Iterator[None]:
    """Say in a sentence why stdout cannot take the report.

    Yields:
        Nothing.

    Raises:
        InputError: for a full disk behind `> report.txt`, and the like.
    """
    try:
        yield
    except OSError as error:
        silence_stdout()
        raise InputError(
            f"The report was expected to go to stdout; the system says {error.strerror!r}. A run "
            "file that was written is whole: print it again with 'curvtool show'."
        ) from error


def silence_stdout() -> None:
    """Let what is still to be flushed go nowhere, so that Python's exit does not complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with contextlib.suppress(OSError, AttributeError, ValueError):  # no file behind it
        os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def be_silent(silent: bool = True) -> None:
    """Whether `say` says nothing: of several processes one speaks for all."""
    global _silent  # of the process, as stderr is
    _silent = silent


def say(sentence: str) -> None:
    """A line about the run."""
    if _silent:
        return
    write_line(f"curvtool: {printable(sentence)}")


def printable(sentence: str) -> str:
    """A sentence fit for a terminal, whatever names from a stranger's file are in it.

    Args:
        sentence: of one line or several.

    Returns:
        The same, with codes that would move the cursor or turn the text around spelled out, and
        the middle of lines without end left out.
    """
    lines = (_shortened(line) for line in sentence.split("\n"))
    return "\n".join(
        "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
        for line in lines
    )


def _shortened(line: str) -> str:
    if len(line) <= _MOST_LINE:
        return line
    return f"{line[: _MOST_LINE * 3 // 4]} ... {line[-_MOST_LINE // 4 :]}"


def write_line(line: str) -> None:
    """A line on stderr. A reader who has gone away is no reason to stop a solve."""
    with contextlib.suppress(BrokenPipeError):
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
