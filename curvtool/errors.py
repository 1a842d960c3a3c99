"""The errors a user can meet, each with the exit code that the command line ends with.

A message has four parts: who speaks, what was needed, what came, what to do.
`ValueError` is for callers of the library, `assert` for our own bugs, `CurvtoolError` for
what the person at the terminal can mend.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the process tells its caller."""

    DONE = 0
    BUG = 1
    USAGE = 2
    NOT_CONVERGED = 3
    UNUSABLE_INPUT = 4
    NOT_A_HESSIAN = 5
    INTERRUPTED = 75


class CurvtoolError(Exception):
    """Something the user can mend; `exit_code` says which kind."""

    exit_code = ExitCode.UNUSABLE_INPUT


class UsageError(CurvtoolError):
    """The command line contradicts itself; judged before any file is opened."""

    exit_code = ExitCode.USAGE


class InputError(CurvtoolError):
    """A checkpoint, dataset, problem file or output that cannot be used."""

    exit_code = ExitCode.UNUSABLE_INPUT


class HookError(InputError):
    """User code raised. The cause (`__cause__`) keeps its traceback, which is printed first."""


class PreflightError(CurvtoolError):
    """The product is not that of a Hessian: not deterministic, not symmetric, or not the truth."""

    exit_code = ExitCode.NOT_A_HESSIAN


class Interrupted(BaseException):
    """Something asked the process to end. Not an `Exception`, so that no handler swallows it.

    Attributes:
        reason: in two or three words: `SIGTERM`, `the time limit`.
        sentence: how to go on; empty where nobody has anything to say about that.
    """

    def __init__(self, reason: str, sentence: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.sentence = sentence
