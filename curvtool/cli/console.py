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


def say(sentence: str) -> None:
    """A line about the run."""
    write_line(f"curvtool: {sentence}")


def write_line(line: str) -> None:
    """A line on stderr. A reader who has gone away is no reason to stop a solve."""
    with contextlib.suppress(BrokenPipeError):
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
