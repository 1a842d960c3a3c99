"""A model is built only where it may be the one of the weights: a spec may ask for any size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import nn

from curvtool.errors import InputError
from curvtool.problem.spec import ModelSpec

# The deepest published networks have some thousand layers; a hostile spec may ask for any.
MOST_LAYERS = 10_000
# Of a model that is loaded in part (--partial) most parameters may not be in the file.
_SPARE_PARAMETERS = 2**27


def bytes_of(checkpoint: Path) -> int:
    """Bytes of a checkpoint: of its file, or of the files of its folder."""
    if checkpoint.is_dir() or checkpoint.suffix == ".json":
        folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
        return sum(p.stat().st_size for p in folder.iterdir() if p.is_file())
    return checkpoint.stat().st_size


def too_deep(values: Mapping[str, object]) -> tuple[str, object] | None:
    """The first argument that asks for more layers than there can be, or None."""
    named = ("layer", "depth", "num_blocks", "repeats")
    for key, value in values.items():
        most = max(value, default=0, key=_size) if isinstance(value, list | tuple) else value
        if any(word in key for word in named) and _size(most) > MOST_LAYERS:
            return key, most
    return None


def in_proportion(
    spec: ModelSpec, build: Callable[[], object], checkpoint: Path | None
) -> Callable[[], object]:
    """A builder that takes no more memory than the weights could fill.

    Args:
        spec: the model.
        build: makes it.
        checkpoint: the weights, or their folder; None where there are none.

    Returns:
        A function that builds it first without memory, on the meta device, counts its parameters,
        and then as `build` does. What does not build there is built as it is.

    Raises:
        InputError: for more layers than any network has.
    """
    deep = too_deep(spec.kwargs)
    if deep is not None:
        raise InputError(
            f"{spec.origin.label}: expected at most {MOST_LAYERS:,} layers of {spec.build}; got "
            f"{deep[0]} = {deep[1]}. Correct --model-kwargs, or kwargs under [model]."
        )
    if checkpoint is None:
        return build

    def built() -> object:
        room = bytes_of(checkpoint)
        count = _parameters(build)
        if count > 2 * room + _SPARE_PARAMETERS:
            raise InputError(
                f"{spec.origin.label}: expected the model whose weights are in {checkpoint}; "
                f"{spec.build} with {dict(spec.kwargs)} has {count:,} parameters, and the weights "
                f"{room:,} bytes. Correct --model-kwargs, or kwargs under [model]."
            )
        return build()

    return built


def _parameters(build: Callable[[], object]) -> int:
    """How many parameters a model has; 0 where it cannot be built without memory."""
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            made = build()
    except Exception:  # noqa: BLE001  # whatever is wrong with it is said where it is built
        return 0
    return sum(p.numel() for p in made.parameters()) if isinstance(made, nn.Module) else 0


def _size(value: object) -> float:
    return value if isinstance(value, int | float) else 0
