"""Entry point of `curvtool` and `python -m curvtool`."""

from __future__ import annotations

import os
import sys

from curvtool.cli.guard import catch_signals, ignore_late_signals
from curvtool.errors import ExitCode, Interrupted


def main() -> None:
    """Run the command line; ends the process."""
    catch_signals()
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, "r+", encoding="utf-8"))  # noqa: SIM115
    try:
        from curvtool.cli.app import run

        code = run(sys.argv[1:])
        ignore_late_signals()  # in here, since until it has run a signal still raises
    except Interrupted:
        code = ExitCode.INTERRUPTED
        ignore_late_signals()
    sys.exit(int(code))


if __name__ == "__main__":
    main()
