"""The function of a run: on every process as a whole, or its parameters shared out."""

from __future__ import annotations

from curvtool.pipeline.loading import Loaded
from curvtool.pipeline.preparing import Config, memory_of, opened_whole
from curvtool.pipeline.sharded import ShardedSubject
from curvtool.problem.objective import Objective
from curvtool.resuming.session import Session


def opened(
    config: Config, loaded: Loaded, session: Session | None = None
) -> tuple[Objective | ShardedSubject, int]:
    """The function of a run, not evaluated yet, and the bytes that a process may use.

    Args:
        config: the run; `computing` stands around the call.
        loaded: from `load`; its module is moved and cast, so that it serves one run.
        session: of a run that may be continued: what was free then counts, not what is free now.

    Returns:
        Both.

    Raises:
        InputError: for a device that is not there, or what sharded parameters cannot serve.
    """  # raised below
    if loaded.sharded is None:
        return opened_whole(config, loaded, session)
    subject = ShardedSubject(
        loaded.sharded,
        loaded.problem.loss,
        loaded.problem.batches,
        weight_decay=config.problem.weight_decay,
    )
    memory = config.compute.memory or memory_of(subject.device, session)
    return subject, min(subject.group.of_all(memory))
