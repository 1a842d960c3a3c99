"""The first step of every run: checkpoint, data and spec from disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, final

import torch
from torch import nn

from curvtool.config import ComputeConfig, ProblemConfig
from curvtool.distributed.alone import Alone
from curvtool.distributed.group import Group
from curvtool.environment import digest
from curvtool.operators.memory import default_memory
from curvtool.operators.sharding.loading import load_sharded
from curvtool.operators.sharding.placing import ShardedModule
from curvtool.pipeline.devices import DTYPES, choose_device
from curvtool.pipeline.sharded import ShardedModel, require_shardable
from curvtool.problem.checkpoint import Checkpoint, tensors_sha256
from curvtool.problem.checkpoint.weights import Loaded as Weights
from curvtool.problem.loading import LoadedProblem, Placed, ProblemRequest, load_problem
from curvtool.problem.seeding import seeded


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
    sharded: ShardedModel | None = None  # where ranks share out the parameters


def load(config: Config, *, working_directory: Path, group: Group | None = None) -> Loaded:
    """Read checkpoint, data and spec.

    Args:
        config: the run.
        working_directory: what relative paths are relative to.
        group: the processes that compute together.

    Returns:
        The problem with the digest of the request.

    Raises:
        InputError: for whatever cannot be used.
    """
    p = config.problem
    placing = _Placing(config, group or Alone()) if config.compute.shard_params else None
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
        ),
        placing,
    )
    decided = {
        "kind": config.kind,
        "config": config.request(),
        "hashes": problem.hashes,
        "spec": problem.spec.as_dict(),
    }
    return Loaded(problem, digest(decided), None if placing is None else placing.model)


@final
class _Placing:
    """Shares a model out over ranks as it is read.

    Attributes:
        model: once it is there.
    """

    def __init__(self, config: Config, group: Group) -> None:
        require_shardable(config.problem, config.compute)
        self._config, self._group = config, group
        self.model: ShardedModel | None = None

    def __call__(
        self, build: Callable[[], nn.Module], checkpoint: Checkpoint, model: str
    ) -> Placed:
        compute = self._config.compute
        device = choose_device(compute.device, self._group.local_rank)

        def loaded(dtype: torch.dtype) -> tuple[ShardedModule, Weights]:
            return load_sharded(
                build,
                checkpoint,
                self._group,
                model=model,
                device=device,
                dtype=dtype,
                patterns=self._config.problem.params,
            )

        sharded, weights = loaded(DTYPES[compute.dtype])

        def twin() -> ShardedModule:
            with seeded(compute.seed):
                return loaded(torch.float64)[0]

        self.model = ShardedModel(sharded, twin)
        # One rank reads all of it, and holds none of it.
        digest = self._group.from_first(lambda: tensors_sha256(weights.tensors))
        return Placed(module=sharded.module, notes=weights.notes, tensors_sha256=digest)
