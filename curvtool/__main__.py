"""Entry point of `curvtool` and `python -m curvtool`."""

from __future__ import annotations

import sys

from curvtool.cli.guard import Interrupted, catch_signals
from curvtool.errors import ExitCode


def main() -> None:
    """Run the command line; ends the process."""
    catch_signals()
    try:
        from curvtool.cli.app import app

        app(prog_name="curvtool")
    except Interrupted:
        sys.exit(int(ExitCode.INTERRUPTED))


if __name__ == "__main__":
    main()
