"""From exceptions to sentences and exit codes; from signals to an orderly end."""

from __future__ import annotations

import contextlib
import signal
import traceback
from collections.abc import Iterator
from types import FrameType

import typer

from curvtool.cli.console import say, silence_stdout
from curvtool.errors import CurvtoolError, ExitCode, HookError

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_received: list[int] = []


class Interrupted(BaseException):
    """A signal asked the process to end. Not an `Exception`, so that no handler swallows it."""


def catch_signals() -> None:
    """Turn SIGTERM and SIGINT into `Interrupted`; to be called before torch is imported."""

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        _note(number)
        end_if_interrupted()

    for number in _SIGNALS:
        signal.signal(number, stop)


def end_if_interrupted() -> None:
    """Raise once more where a finaliser or a C library has swallowed `Interrupted`.

    Raises:
        Interrupted: after a signal.
    """
    if _received:
        raise Interrupted(signal.Signals(_received[0]).name)


@contextlib.contextmanager
def finishing() -> Iterator[None]:
    """Let a short piece of work end before a signal ends the process.

    HDF5 calls back into Python while it writes, and does not survive an exception there.

    Yields:
        Nothing; a signal that came in the meantime is raised as `Interrupted` at the end.
    """
    before = {n: signal.signal(n, lambda number, _: _note(number)) for n in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    end_if_interrupted()


def _note(number: int) -> None:
    # A second signal must not be lost in a handler that hangs.
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_DFL)
    _received.append(number)


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
        say(
            f"Interrupted by {signal_name}. Nothing half-written is left; the same command starts "
            "again."
        )
        raise typer.Exit(int(ExitCode.INTERRUPTED)) from None
    except BrokenPipeError:
        # Whoever read our output has seen enough; Python's own flush at exit must not complain.
        silence_stdout()
        raise typer.Exit(int(ExitCode.DONE)) from None
    except typer.Exit:
        raise
    except Exception as error:  # noqa: BLE001  # the last place that can say anything
        if _wants_memory(error):
            say(
                "Expected this run to fit into memory; there was not enough "
                f"({str(error).strip().partition(chr(10))[0] or type(error).__name__}). Use a "
                "smaller --batch-size, --memory or --top-k, or another --device."
            )
            raise typer.Exit(int(ExitCode.UNUSABLE_INPUT)) from None
        traceback.print_exc()
        say(
            "This is a bug in curvtool. Please report it with the lines above, the command and the "
            "versions of curvtool and torch."
        )
        raise typer.Exit(int(ExitCode.BUG)) from None


def _wants_memory(error: Exception) -> bool:
    """Whether Python, a GPU or torch's allocator for the CPU ran out; without importing torch."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "DefaultCPUAllocator" in str(error)
    )
