"""Options that every command has, given to a command as one value."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from curvtool.cli import options as opt
from curvtool.cli.guard import guarded
from curvtool.cli.values import device_name, finite, parse_bytes, parse_duration
from curvtool.config import ComputeConfig, DType, ProblemConfig, Way, Weights
from curvtool.errors import UsageError

DEFAULT_SAVE_EVERY = 60.0
# A compilation takes minutes in which a rank makes no step.
DEFAULT_PATIENCE = 1800.0


@dataclass(frozen=True, kw_only=True)
class Common:
    """The shared options as they were typed."""

    checkpoint: Path
    key: str | None
    weights: Weights
    partial: bool
    problem: Path | None
    model: str | None
    model_kwargs: list[str] | None
    data: str | None
    data_kwargs: list[str] | None
    loss: str | None
    loss_kwargs: list[str] | None
    output: str | None
    batch_size: int | None
    max_examples: int | None
    params: list[str] | None
    weight_decay: float
    train_mode: bool
    skip_unused: bool
    trust: bool
    download: bool
    device: str
    dtype: DType
    memory: str | None
    seed: int
    as_json: bool
    quiet: bool
    verbose: bool

    def problem_config(self) -> ProblemConfig:
        """Model, data and loss.

        Returns:
            The config.

        Raises:
            UsageError: for a value that cannot be.
        """
        # Imported here, as all that takes time: --help must answer at once.
        from curvtool.problem.key_values import parse_key_values

        if self.quiet and self.verbose:
            raise UsageError("--quiet and --verbose contradict each other; leave one out.")
        if self.key is not None and self.weights == "ema":
            raise UsageError("--key names the weights already; leave --weights ema out.")
        return ProblemConfig(
            checkpoint=self.checkpoint,
            key=self.key,
            weights=self.weights,
            partial=self.partial,
            problem=self.problem,
            model=self.model,
            data=self.data,
            loss=self.loss,
            model_kwargs=parse_key_values(self.model_kwargs or [], option="--model-kwargs"),
            data_kwargs=parse_key_values(self.data_kwargs or [], option="--data-kwargs"),
            loss_kwargs=parse_key_values(self.loss_kwargs or [], option="--loss-kwargs"),
            output=self.output,
            batch_size=self.batch_size,
            max_examples=self.max_examples,
            trust=self.trust,
            download=self.download,
            params=tuple(self.params or ()),
            weight_decay=finite("--weight-decay", self.weight_decay),
            train_mode=self.train_mode,
            skip_unused=self.skip_unused,
        )

    def compute_config(self, hvp: Way = "auto") -> ComputeConfig:
        """Where and how precisely.

        Args:
            hvp: of commands that let it be chosen.

        Returns:
            The config.

        Raises:
            UsageError: for a value that cannot be.
        """
        return ComputeConfig(
            device=device_name(self.device),
            dtype=self.dtype,
            memory=None if self.memory is None else parse_bytes(self.memory),
            hvp=hvp,
            seed=self.seed,
        )


@final
@dataclass(frozen=True, kw_only=True)
class Long(Common):
    """The same of commands whose runs can be continued."""

    resume: bool
    save_every: str | None
    time_limit: str | None
    rank_timeout: str | None
    shard_params: bool

    def __post_init__(self) -> None:
        """Refuse times that cannot be, before anything is opened."""
        self.save_seconds, self.limit_seconds, self.patience_seconds  # noqa: B018

    def compute_config(self, hvp: Way = "auto") -> ComputeConfig:
        """Where and how precisely; see `Common`."""
        return replace(super().compute_config(hvp), shard_params=self.shard_params)

    @property
    def save_seconds(self) -> float:
        """Seconds between saves; negative for none."""
        if self.save_every is None:
            return DEFAULT_SAVE_EVERY
        if self.save_every == "off" or self.save_every.startswith("-"):
            return -1.0
        return parse_duration("--save-every", self.save_every, least=0.0)

    @property
    def limit_seconds(self) -> float | None:
        """Seconds that the run may take; None for no limit."""
        if self.time_limit is None:
            return None
        return parse_duration("--time-limit", self.time_limit, least=1e-3)

    @property
    def patience_seconds(self) -> float:
        """Seconds without progress after which one of several processes counts as hung."""
        if self.rank_timeout is None:
            return DEFAULT_PATIENCE
        return parse_duration("--rank-timeout", self.rank_timeout, least=1.0)


def _shared(
    *,
    key: opt.Key = None,
    weights: opt.WhichWeights = "model",
    partial: opt.Partial = False,
    problem: opt.Problem = None,
    model: opt.Model = None,
    model_kwargs: opt.ModelKwargs = None,
    data: opt.Data = None,
    data_kwargs: opt.DataKwargs = None,
    loss: opt.Loss = None,
    loss_kwargs: opt.LossKwargs = None,
    output: opt.Output = None,
    batch_size: opt.BatchSize = None,
    max_examples: opt.MaxExamples = None,
    params: opt.Params = None,
    weight_decay: opt.WeightDecay = 0.0,
    train_mode: opt.TrainMode = False,
    skip_unused: opt.SkipUnused = False,
    trust: opt.Trust = False,
    download: opt.Download = False,
    device: opt.Device = "auto",
    dtype: opt.Precision = "float32",
    memory: opt.Memory = None,
    seed: opt.Seed = 0,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """Never called: its signature is what the commands share."""


def _shared_by_long(
    *,
    resume: opt.Resume = False,
    save_every: opt.SaveEvery = None,
    time_limit: opt.TimeLimit = None,
    rank_timeout: opt.RankTimeout = None,
    shard_params: opt.ShardParams = False,
) -> None:
    """Never called: likewise, of commands whose runs can be continued."""


def with_common(command: Callable[..., int]) -> Callable[..., None]:
    """Give a command the checkpoint and the shared options.

    Args:
        command: takes a `Common` first, then its own options as keywords, and returns an exit
            code. What it raises becomes a sentence.

    Returns:
        The function for typer, which reads options from a signature.
    """
    return _with(command, Common, (_shared,))


def with_long(command: Callable[..., int]) -> Callable[..., None]:
    """The same for a command whose runs can be continued: it takes a `Long`."""
    return _with(command, Long, (_shared_by_long, _shared))


def with_checkpoints(command: Callable[..., int]) -> Callable[..., None]:
    """The same for a command of many checkpoints: it takes the `Long` of the first, and all."""
    return _with(command, Long, (_shared_by_long, _shared), many=True)


def _with(
    command: Callable[..., int],
    kind: type[Common],
    sharing: Sequence[Callable[..., None]],
    *,
    many: bool = False,
) -> Callable[..., None]:
    argument, hint = ("checkpoints", opt.Checkpoints) if many else ("checkpoint", opt.Checkpoint)
    own = list(inspect.signature(command).parameters.values())[2 if many else 1 :]
    shared = [p for each in sharing for p in inspect.signature(each).parameters.values()]
    names = {p.name for p in shared}

    @functools.wraps(command)
    def run(**given: Any) -> None:
        import typer

        common = {name: given.pop(name) for name in names}
        checkpoints = given.pop(argument)
        if many:
            given["checkpoints"] = checkpoints
        with guarded():
            first = checkpoints[0] if many else checkpoints
            code = command(kind(checkpoint=first, **common), **given)
        raise typer.Exit(int(code))

    checkpoint = inspect.Parameter(argument, inspect.Parameter.KEYWORD_ONLY, annotation=hint)
    parameters = [checkpoint, *own, *shared]
    hints = {
        **{n: h for f in sharing for n, h in typing.get_type_hints(f, include_extras=True).items()},
        **typing.get_type_hints(command, include_extras=True),
        argument: hint,
    }
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            p.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[p.name])
            for p in parameters
        ]
    )
    run.__annotations__ = {p.name: hints[p.name] for p in parameters}
    del run.__wrapped__  # whose signature typer would read
    return run
