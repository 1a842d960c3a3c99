"""From what the user asks to a module with its weights, its batches and its loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from torch import nn

from curvtool.problem.batch import Loss
from curvtool.problem.checkpoint import (
    Checkpoint,
    files_sha256,
    load_weights,
    narrowed,
    read_checkpoint,
    tensors_sha256,
)
from curvtool.problem.data import Allowance, make_batches, preprocessing_of, resolve_data
from curvtool.problem.losses import resolve_loss
from curvtool.problem.model_sources import Build, build_model, resolve_model
from curvtool.problem.resolve import (
    command_line_source,
    embedded_source,
    found_sources,
    problem_file_source,
    resolve,
)
from curvtool.problem.seeding import seeded
from curvtool.problem.spec import Origin, ProblemSpec, SpecSource
from curvtool.problem.stored import AnyBatch
from curvtool.problem.vocabulary import vocabulary_notes

# What [model] says of a checkpoint that is its own model.
PROGRAM = "program"


@dataclass(frozen=True, kw_only=True)
class ProblemRequest:
    """What the command line says of the problem.

    Attributes:
        checkpoint: the file or folder with the weights.
        problem: a TOML file, as `--problem` names it.
        model: as `--model` gives it, like `build` in the file.
        data: as `--data` gives it, like `source`.
        loss: as `--loss` gives it, like `name`.
        model_kwargs: parsed `key=value` pairs; likewise the two others.
        data_kwargs: of these, `inputs`, `targets`, `weights` and `transforms` are keys of [data].
        loss_kwargs: see `model_kwargs`.
        output: the model's output that the loss reads, like `output`.
        batch_size: examples a batch; above the spec's.
        max_examples: at most so many, a seeded subset.
        seed: of that subset, and of what user code draws while it builds and reads.
        trust: whether code named by a spec that came with the checkpoint may run, and a
            checkpoint that is a program.
        key: the place of the weights inside the checkpoint, dotted.
        average: whether a running average of the weights (EMA) is meant.
        partial: whether to load what fits, and to note what does not.
        download: whether torchvision may fetch data that are not on disk.
        memory: bytes that data may take while they are read; what takes more than a quarter of it
            is not kept, but read in every pass. None for no bound.
        working_directory: what paths on the command line are relative to.
    """

    checkpoint: Path
    problem: Path | None = None
    model: str | None = None
    data: str | None = None
    loss: str | None = None
    model_kwargs: Mapping[str, object] = field(default_factory=dict)
    data_kwargs: Mapping[str, object] = field(default_factory=dict)
    loss_kwargs: Mapping[str, object] = field(default_factory=dict)
    output: str | None = None
    batch_size: int | None = None
    max_examples: int | None = None
    seed: int = 0
    trust: bool = False
    download: bool = False
    memory: int | None = None
    key: str | None = None
    average: bool = False
    partial: bool = False
    working_directory: Path = field(default_factory=Path.cwd)

    def __post_init__(self) -> None:
        """Refuse counts that cannot be; the command line has checked them by then."""
        for name, least in (("batch_size", 1), ("max_examples", 1), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"ProblemRequest needs {name} of at least {least}; got {value}.")


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedProblem:
    """A problem ready to be made an objective.

    Attributes:
        module: on the CPU with its weights, in the file's floating-point types and in the mode
            that its builder left it in.
        batches: on the CPU or where they are stored, in a fixed order.
        loss: of one batch.
        spec: the problem as resolved.
        checkpoint: the checkpoint's path as the user wrote it.
        hashes: `checkpoint_sha256`, `tensors_sha256` and `data_sha256`.
        notes: sentences without a full stop that a reader of the result has to know.
    """

    module: nn.Module
    batches: list[AnyBatch]
    loss: Loss
    spec: ProblemSpec
    checkpoint: str
    hashes: dict[str, str]
    notes: list[str]

    @property
    def examples(self) -> int:
        """Number of examples in all batches."""
        return sum(batch.examples for batch in self.batches)


@dataclass(frozen=True, kw_only=True, eq=False)
class Placed:
    """A module with its weights, wherever these are.

    Attributes:
        module: with its weights.
        notes: on what was read.
        tensors_sha256: of the weights.
    """

    module: nn.Module
    notes: list[str]
    tensors_sha256: str


Place = Callable[[Callable[[], nn.Module], Checkpoint, str], Placed]


def load_problem(request: ProblemRequest, place: Place | None = None) -> LoadedProblem:
    """Load everything that the request names, what is cheap to refuse first.

    Args:
        request: what the user asks for.
        place: builds the module and gives it its weights, told how the spec names it; None for a
            whole module here.

    Returns:
        The problem. Generators of random numbers are left as they were.

    Raises:
        InputError: for whatever cannot be used; `HookError` where user code raised.
    """
    path = _as_typed(request)
    named = _named_sources(request)
    checkpoint = narrowed(
        read_checkpoint(path, trust=request.trust), key=request.key, average=request.average
    )
    spec = resolve([*named, *_brought_sources(request, checkpoint)], checkpoint=path)
    loss = resolve_loss(spec)
    allowance = Allowance(download=request.download)
    if request.memory is not None:
        allowance = replace(allowance, memory=request.memory)
    preprocessing = preprocessing_of(spec.data)
    with seeded(request.seed):
        build = _build_of(spec, checkpoint)
        read = resolve_data(spec.data, allowance)
        made = partial(build_model, spec.model, build)
        if place is None:
            placed = _placed_here(made, checkpoint, spec.model.build, partly=request.partial)
        else:
            placed = place(made, checkpoint, spec.model.build)
        source = read()
        notes = [*placed.notes, *vocabulary_notes(placed.module, source.vocabulary)]
        data = make_batches(
            source,
            batch_size=request.batch_size,
            default_batch_size=spec.data.batch_size,
            max_examples=request.max_examples,
            seed=request.seed,
            preprocessing=preprocessing,
            weights=spec.data.weights,
            allowance=allowance,
        )
    return LoadedProblem(
        module=placed.module,
        batches=data.batches,
        loss=loss,
        spec=spec,
        checkpoint=str(request.checkpoint),
        hashes={
            "checkpoint_sha256": files_sha256(checkpoint.files),
            "tensors_sha256": placed.tensors_sha256,
            "data_sha256": data.sha256,
        },
        notes=[*notes, *data.notes],
    )


def _placed_here(
    build: Callable[[], nn.Module], checkpoint: Checkpoint, model: str, *, partly: bool
) -> Placed:
    module = build()
    loaded = load_weights(module, checkpoint, model, partial=partly)
    return Placed(module=module, notes=loaded.notes, tensors_sha256=tensors_sha256(loaded.tensors))


def _build_of(spec: ProblemSpec, checkpoint: Checkpoint) -> Build:
    if spec.model.build == PROGRAM and checkpoint.program is not None:
        return checkpoint.program
    return resolve_model(spec.model, checkpoint.path)


def _as_typed(request: ProblemRequest) -> Path:
    """The checkpoint's path, short in messages where it can be; a folder by its own name."""
    path = request.checkpoint
    if request.working_directory != Path.cwd():
        path = request.working_directory / path
    return path if path.name not in {"", ".."} else path.resolve()


def _named_sources(request: ProblemRequest) -> list[SpecSource]:
    sources = [
        command_line_source(
            heads={"model": request.model, "data": request.data, "loss": request.loss},
            kwargs={
                "model": request.model_kwargs,
                "data": request.data_kwargs,
                "loss": request.loss_kwargs,
            },
            working_directory=request.working_directory,
            output=request.output,
        )
    ]
    if request.problem is not None:
        sources.append(problem_file_source(request.problem, request.working_directory))
    return sources


def _brought_sources(request: ProblemRequest, checkpoint: Checkpoint) -> list[SpecSource]:
    sources = []
    if checkpoint.problem is not None:
        sources.append(embedded_source(checkpoint.problem, checkpoint.path, trust=request.trust))
    sources += found_sources(checkpoint.path, request.working_directory, trust=request.trust)
    if checkpoint.program is not None:
        origin = Origin(f"the program {checkpoint.path.name}", checkpoint.path.parent, trusted=True)
        sources.append(SpecSource(origin, {"model": {"build": PROGRAM}}))
    return sources
