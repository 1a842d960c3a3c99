"""Parts of the records that runs of every kind share."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from curvtool.config import ProblemConfig
from curvtool.environment import describe_environment, now
from curvtool.pipeline.loading import Config, Loaded
from curvtool.pipeline.preparing import Prepared, Whole
from curvtool.pipeline.sharded import ShardedPrepared
from curvtool.pipeline.subject import Measured, Subject
from curvtool.problem.loading import LoadedProblem
from curvtool.results import ParameterEntry, ProblemSummary


def solve_record(
    config: Config,
    loaded: Loaded,
    prepared: Prepared | ShardedPrepared,
    *,
    began: float,
    seconds: float,
    hvps: float,
) -> dict[str, Any]:
    """The fields that the records of all solves have.

    Args:
        config: the run.
        loaded: its problem.
        prepared: the same, evaluated, checked and planned.
        began: when the run did, by `time.perf_counter`.
        seconds: that the solve took.
        hvps: products that it made.

    Returns:
        Values by the names of the fields.
    """
    objective = prepared.objective
    return {
        "problem": problem_record(
            config.problem, loaded.problem, objective, prepared.measured, prepared.whole
        ),
        "plan": prepared.plan(seconds_per_product=seconds / max(1.0, hvps), hvps=hvps),
        "preflight": prepared.preflight,
        "parameters": parameter_records(objective),
        "config": config_record(config),
        "environment": environment_record(loaded, objective.device),
        "seconds": time.perf_counter() - began,
        "version": version("curvtool"),
        "created": now(),
    }


def config_record(config: Config) -> Mapping[str, Any]:
    """The config as JSON will give it back."""
    plain: Mapping[str, Any] = _plain(asdict(config))  # type: ignore[call-overload]
    return plain


def environment_record(loaded: Loaded, device: torch.device) -> Mapping[str, Any]:
    """Versions, machine, hashes and spec: what identifies a run beside its config."""
    return {
        **describe_environment(device),
        **loaded.problem.hashes,
        "spec": loaded.problem.spec.as_dict(),
        "request": loaded.request,
    }


def problem_record(
    config: ProblemConfig,
    problem: LoadedProblem,
    objective: Subject,
    measured: Measured,
    whole: Whole | None = None,
) -> ProblemSummary:
    """What was differentiated, and its value at the checkpoint."""
    notes = [*problem.notes, *objective.notes]
    if measured.uses_attention:
        notes.append("Attention runs on the math kernel: fused ones have no second derivative.")
    score = measured.score
    return ProblemSummary(
        checkpoint=problem.checkpoint,
        model=problem.spec.model.build,
        data=problem.spec.data.source,
        loss=problem.spec.loss.name,
        num_parameters=objective.size,
        num_examples=whole.examples if whole else objective.num_examples,
        num_batches=whole.batches if whole else objective.num_batches,
        total_weight=whole.total_weight if whole else objective.total_weight,
        loss_value=measured.loss,
        gradient_norm=measured.gradient_norm,
        accuracy=score.accuracy,
        rmse=None if score.fit is None else score.fit.rmse,
        target_std=None if score.fit is None else score.fit.target_std,
        weight_decay=config.weight_decay,
        train_mode=config.train_mode,
        notes=tuple(note.rstrip(".") + "." for note in notes),
    )


def parameter_records(objective: Subject) -> tuple[ParameterEntry, ...]:
    """The map from the flat vector to named tensors."""
    layout = objective.layout
    return tuple(
        ParameterEntry(name=name, shape=tuple(shape), offset=offset, size=size)
        for name, shape, offset, size in zip(
            layout.names, layout.shapes, layout.offsets, layout.sizes, strict=True
        )
    )


def _plain(value: Any) -> Any:
    """The config as JSON will give it back: paths as text, tuples as lists."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
