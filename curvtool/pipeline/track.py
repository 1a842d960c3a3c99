"""A sweep from its runs to their summary."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from curvtool.algorithms.overlap import subspace_cosines
from curvtool.config import SpectrumConfig
from curvtool.environment import now
from curvtool.pipeline.records import config_record
from curvtool.results import FloatArray, SpectrumRun, Tracked, TrackRun

# What belongs to one checkpoint.
_ITS_OWN = ("checkpoint_sha256", "tensors_sha256", "request", "started_from")


def compared(blocks: Iterable[tuple[Any, Any]]) -> FloatArray:
    """Cosines of the principal angles between the eigenvectors of two runs.

    Args:
        blocks: columns of both, as arrays of shapes (k, n) and (l, n).

    Returns:
        Shape (min(k, l),), decreasing.
    """
    return subspace_cosines(blocks)


def summarised(
    config: SpectrumConfig, rows: Sequence[Tracked], latest: SpectrumRun | None
) -> TrackRun:
    """The record of a sweep.

    Args:
        config: of any of its runs.
        rows: its checkpoints.
        latest: the last run that ended; None where none did.

    Returns:
        The record, for its file.
    """
    plain = config_record(config)
    environment = {} if latest is None else latest.environment
    return TrackRun(
        rows=tuple(rows),
        problem=None if latest is None else replace(latest.problem, checkpoint=""),
        which=config.which,
        tol=config.tol,
        accuracy=config.accuracy,
        config={**plain, "problem": {**plain["problem"], "checkpoint": ""}},
        environment={n: value for n, value in environment.items() if n not in _ITS_OWN},
        version=version("curvtool"),
        created=now(),
    )
