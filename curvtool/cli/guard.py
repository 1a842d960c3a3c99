"""From exceptions to sentences and exit codes; from signals to an orderly end."""

from __future__ import annotations

import contextlib
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import typer

from curvtool.cli.console import say, silence_stdout
from curvtool.errors import CurvtoolError, ExitCode, HookError, Interrupted

# Schedulers send any of these some time before they kill.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
# Seconds after which `Interrupted` is raised anew where a finaliser swallowed it.
_AGAIN = 0.01
_received: list[int] = []
# Whether a signal waits for the next boundary of a run that saves its state.
_waits: list[Callable[[], bool]] = []


def catch_signals() -> None:
    """Turn signals that ask for an end into `Interrupted`; called before torch is imported."""

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        if _waiting():
            _received.append(number)
            # Ctrl-C twice leaves at once. Others may come in a row (USR1, then TERM): they must not
            # end the save that the first one asked for.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            return
        _note(number)
        end_if_interrupted()

    for number in _SIGNALS:
        signal.signal(number, stop)
    signal.signal(signal.SIGALRM, lambda *_: end_if_interrupted())
    usual = sys.unraisablehook

    def unraisable(found: sys.UnraisableHookArgs, /) -> None:
        # In a `__del__` or a weak reference's callback Python drops what a handler raises.
        if isinstance(found.exc_value, Interrupted):
            signal.setitimer(signal.ITIMER_REAL, _AGAIN)
        else:
            usual(found)

    sys.unraisablehook = unraisable


def ignore_late_signals() -> None:
    """Let no signal but SIGINT change how a process ends that is only leaving.

    Python takes its handlers down before it ends: a SIGUSR2 in that moment, from a job's time
    limit, made a failure of a run whose file was written, and so would the SIGTERM that follows of
    one whose state is saved.
    """
    signal.setitimer(signal.ITIMER_REAL, 0.0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)


def end_if_interrupted() -> None:
    """Raise once more where a finaliser or a C library has swallowed `Interrupted`.

    Raises:
        Interrupted: after a signal, unless it waits for the next boundary.
    """
    if _received and not _waiting():
        raise Interrupted(signal.Signals(_received[0]).name)


def received() -> str | None:
    """The name of the first signal that came; None where none did."""
    return signal.Signals(_received[0]).name if _received else None


@contextlib.contextmanager
def waiting(while_: Callable[[], bool]) -> Iterator[None]:
    """Let signals wait for a boundary, where whoever makes products asks for them.

    Args:
        while_: whether they wait at the moment.

    Yields:
        Nothing.
    """
    _waits.append(while_)
    try:
        yield
    finally:
        _waits.pop()


def _waiting() -> bool:
    return any(each() for each in _waits)


@contextlib.contextmanager
def finishing() -> Iterator[None]:
    """Let a short piece of work end before a signal ends the process.

    HDF5 calls back into Python while it writes, and does not survive an exception there.

    Yields:
        Nothing; a signal that came in the meantime is raised as `Interrupted` at the end.
    """
    before: dict[signal.Signals, Any] = {
        n: signal.signal(n, lambda number, _: _note(number)) for n in _SIGNALS
    }
    before[signal.SIGALRM] = signal.signal(signal.SIGALRM, signal.SIG_IGN)
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
    except Interrupted as interruption:
        say(
            f"Interrupted by {interruption.reason}. "
            f"{interruption.sentence or 'Nothing half-written is left; the same command goes on.'}"
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
