"""Models of timm by name, never with its pretrained weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from curvtool.errors import InputError
from curvtool.problem.libraries import library
from curvtool.problem.spec import ModelSpec
from curvtool.problem.wording import did_you_mean

_WEIGHTS = (
    "pretrained",
    "checkpoint_path",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "cache_dir",
)


def timm_model(spec: ModelSpec, name: str, checkpoint: Path | None) -> Callable[[], object]:
    """Find a model of timm.

    Args:
        spec: the model of the problem.
        name: as timm has it; a tag of pretrained weights after a dot is left aside.
        checkpoint: not needed.

    Returns:
        A function of no arguments that builds it.

    Raises:
        InputError: for a name that timm does not have, arguments that would fetch weights, or
            where the library is absent.
    """
    del checkpoint
    timm = library("timm", "timm", f"{spec.origin.label}: {spec.build}")
    bare = name.partition(".")[0]
    if not timm.is_model(bare):
        raise InputError(
            f"{spec.origin.label}: expected a model of timm after timm:; got {name!r}."
            f"{did_you_mean(bare, timm.list_models())} The names are those of timm.list_models()."
        )
    for refused in _WEIGHTS:
        if spec.kwargs.get(refused):
            raise InputError(
                f"{spec.origin.label}: expected the weights of {spec.build} to come from the "
                f"checkpoint; got {refused}={spec.kwargs[refused]!r}. Remove that argument."
            )
    kwargs: Any = {key: value for key, value in spec.kwargs.items() if key not in _WEIGHTS}
    # Nothing is downloaded, and nothing of the checkpoint is read here.
    return lambda: timm.create_model(bare, pretrained=False, **kwargs)
