"""From exceptions to sentences and exit codes; from signals to an orderly end."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from types import FrameType

import typer

from curvtool.cli.console import say
from curvtool.errors import CurvtoolError, ExitCode, HookError


class Interrupted(BaseException):
    """A signal asked the process to end. Not an `Exception`, so that no handler swallows it."""


def catch_signals() -> None:
    """Turn SIGTERM and SIGINT into `Interrupted`; to be called before torch is imported."""

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        # A second signal must not be lost in a handler that hangs.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise Interrupted(signal.Signals(number).name)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Run a command's body; end the process with the exit code of what went wrong.

    Raises:
        Exit: with the code that the table of exit codes gives.
    """
    try:
        yield
    except HookError as error:
        if error.__cause__ is not None:
            traceback.print_exception(error.__cause__)
        say(str(error))
        raise typer.Exit(int(error.exit_code)) from None
    except CurvtoolError as error:
        say(str(error))
        raise typer.Exit(int(error.exit_code)) from None
    except Interrupted as signal_name:
        say(f"Interrupted by {signal_name}: nothing was written. The same command starts again.")
        raise typer.Exit(int(ExitCode.INTERRUPTED)) from None
    except BrokenPipeError:
        # Whoever read our output has seen enough; Python's own flush at exit must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(int(ExitCode.DONE)) from None
    except typer.Exit:
        raise
    except Exception:
        traceback.print_exc()
        say(
            "This is a bug in curvtool. Please report it with the lines above, the command and the "
            "versions of curvtool and torch."
        )
        raise typer.Exit(int(ExitCode.BUG)) from None

