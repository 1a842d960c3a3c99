"""What the file of every solve holds besides its answer: request, problem, plan, checks."""

from __future__ import annotations

from typing import Any

from curvtool.results import Outcome, SolveRun
from curvtool.storage.file import (
    RunHeader,
    read_parameters,
    write_header,
    write_parameters,
)
from curvtool.storage.records import read_plan, read_preflight, read_problem, write_record


def write_solve(file: Any, run: SolveRun, *, kind: str, outcome: Outcome, hvps: float) -> None:
    """Write all of a run but its answer.

    Args:
        file: open `h5py.File`.
        run: what to write.
        kind: of the run.
        outcome: how it ended.
        hvps: products over the whole dataset.
    """
    write_header(
        file,
        RunHeader(
            kind=kind,
            outcome=outcome.value,
            hvps=hvps,
            seconds=run.seconds,
            version=run.version,
            created=run.created,
            config=run.config,
            environment=run.environment,
        ),
    )
    for name, record in (
        ("problem", run.problem),
        ("plan", run.plan),
        ("preflight", run.preflight),
    ):
        write_record(file, name, record)
    write_parameters(file, run.parameters)


def read_solve(file: Any, header: RunHeader) -> dict[str, Any]:
    """Read what `write_solve` wrote.

    Args:
        file: open `h5py.File`.
        header: read from it.

    Returns:
        The fields that every run has, by name.
    """
    return {
        "problem": read_problem(file),
        "plan": read_plan(file),
        "preflight": read_preflight(file),
        "parameters": read_parameters(file),
        "config": header.config,
        "environment": header.environment,
        "seconds": header.seconds,
        "version": header.version,
        "created": header.created,
    }
