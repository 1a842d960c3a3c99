"""The first step of every run: checkpoint, data and spec from disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, final

import torch

from curvtool.config import ComputeConfig, ProblemConfig
from curvtool.environment import digest
from curvtool.operators.memory import default_memory
from curvtool.problem.loading import LoadedProblem, ProblemRequest, load_problem


class Config(Protocol):
    """What the config of every command has."""

    @property
    def kind(self) -> str:
        """Of the run: the command's name."""
        ...

    @property
    def problem(self) -> ProblemConfig:
        """Model, data and loss."""
        ...

    @property
    def compute(self) -> ComputeConfig:
        """Where and how precisely."""
        ...

    def request(self) -> Mapping[str, Any]:
        """What decides the result."""
        ...


@final
@dataclass(frozen=True, eq=False)
class Loaded:
    """A problem read from disk, and what identifies the request it belongs to."""

    problem: LoadedProblem
    request: str  # SHA-256 of what decides the result


def load(config: Config, *, working_directory: Path) -> Loaded:
    """Read checkpoint, data and spec.

    Args:
        config: the run.
        working_directory: what relative paths are relative to.

    Returns:
        The problem with the digest of the request.

    Raises:
        InputError: for whatever cannot be used.
    """
    p = config.problem
    problem = load_problem(
        ProblemRequest(
            checkpoint=p.checkpoint,
            problem=p.problem,
            model=p.model,
            data=p.data,
            loss=p.loss,
            model_kwargs=p.model_kwargs,
            data_kwargs=p.data_kwargs,
            loss_kwargs=p.loss_kwargs,
            output=p.output,
            batch_size=p.batch_size,
            max_examples=p.max_examples,
            seed=config.compute.seed,
            trust=p.trust,
            download=p.download,
            memory=config.compute.memory or default_memory(torch.device("cpu")),
            key=p.key,
            average=p.weights == "ema",
            partial=p.partial,
            working_directory=working_directory,
        )
    )
    decided = {
        "kind": config.kind,
        "config": config.request(),
        "hashes": problem.hashes,
        "spec": problem.spec.as_dict(),
    }
    return Loaded(problem, digest(decided))
