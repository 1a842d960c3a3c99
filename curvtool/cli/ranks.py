"""The processes that torchrun or srun started for one command; only rank 0 speaks and writes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from curvtool.cli.console import be_silent
from curvtool.distributed.launch import Launch, launched
from curvtool.errors import CurvtoolError, ExitCode, Interrupted

if TYPE_CHECKING:
    from curvtool.cli.common import Long
    from curvtool.distributed.group import Group


def place_among_ranks() -> Launch | None:
    """This process's place; None for one of its own. All ranks but the first fall silent."""
    launch = launched(os.environ)
    if launch is not None and launch.rank:
        be_silent()
    return launch


def speaks(launch: Launch | None) -> bool:
    """Whether this process is the one that prints."""
    return launch is None or launch.rank == 0


@contextlib.contextmanager
def joined(launch: Launch | None, common: Long) -> Iterator[Group]:
    """Meet the other processes, and tell them how this one ends.

    Args:
        launch: of this process.
        common: the shared options.

    Yields:
        The group.

    Raises:
        RankFailedError: where another rank has failed, died or hung.
        CurvtoolError: that this one met.
        Interrupted: where another rank has left.
    """
    from curvtool.distributed.group import Alone

    if launch is None:
        yield Alone()
        return
    from curvtool.distributed.group import Ranks
    from curvtool.distributed.watch import RankFailedError
    from curvtool.pipeline.devices import choose_device

    device = choose_device(common.compute_config().device, launch.local_rank)
    try:
        ranks = Ranks(launch, device, patience=common.patience_seconds)
    except RankFailedError as error:
        if error.rank == 0:
            be_silent(False)
        raise
    try:
        yield ranks
    except Interrupted as interruption:
        ranks.leave(interruption.reason)
        raise
    except RankFailedError as error:
        if launch.rank == 0:  # which looks after all: the others learn it from here
            ranks.watch.fail(str(error), error.exit_code)
        elif error.rank == 0 and error.exit_code is ExitCode.INTERRUPTED:  # lost, so silent
            be_silent(False)
        raise
    except CurvtoolError as error:
        ranks.watch.fail(str(error), error.exit_code)
        raise
    except Exception as error:
        ranks.watch.fail(f"{type(error).__name__}: {error}", ExitCode.BUG)
        raise
    finally:
        ranks.close()
