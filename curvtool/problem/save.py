"""Write a checkpoint that carries its own problem: model, data and loss as plain JSON types."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from curvtool.problem.checkpoint.read import SCHEMA
from curvtool.problem.spec import HEADS


def save_checkpoint(
    path: str | os.PathLike[str],
    model: nn.Module | Mapping[str, Tensor],
    *,
    problem: Mapping[str, Any],
) -> None:
    """Write parameters and problem to `path`; `torch.load(weights_only=True)` reads the file.

    The file holds `{"model": state dict on the CPU, "curvtool": {"schema", "problem"}}`. It is
    written beside `path` and then renamed, so that `path` is never half a checkpoint.

    Args:
        path: the file, conventionally `*.pt`; its folder exists. One that is there is replaced.
        model: a module, or its state dict. `DataParallel`, `DistributedDataParallel` and the
            wrapper of `torch.compile` are taken off the module; a state dict is kept as it is.
        problem: sections `model`, `data`, `loss`, each may be absent, e.g.
            `{"model": {"build": "mlp", "kwargs": {"sizes": [64, 10]}},
            "data": {"source": "npz:digits.npz", "inputs": "x", "targets": "y",
            "batch_size": 64}, "loss": {"name": "cross_entropy"}}`. Data paths are relative
            to the folder of the checkpoint. Copied; tuples become lists.

    Raises:
        ValueError: for an unknown section, a value in `problem` that JSON does not have, or a
            state dict whose values are not all tensors. The message names the key.
        OSError: when the file cannot be written; `path` is then as before.
    """
    content = {
        "model": _cpu_state(model),
        "curvtool": {"schema": SCHEMA, "problem": _checked_problem(problem)},
    }
    target = Path(path)
    partial = target.with_name(target.name + ".partial")
    try:
        with partial.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def _cpu_state(model: nn.Module | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict on the CPU; tensors that share memory there still share it in the file."""
    values = _unwrapped(model).state_dict() if isinstance(model, nn.Module) else model
    state: dict[str, Tensor] = {}
    for key, value in values.items():
        # A module with an extra state puts any object here, and weights_only refuses to load it.
        if not isinstance(value, Tensor):
            raise ValueError(
                f"save_checkpoint needs tensors in the state dict; {key!r} holds a "
                f"{_type_name(value)}."
            )
        state[key] = value.detach().cpu()
    return state


def _unwrapped(model: nn.Module) -> nn.Module:
    """The module inside wrappers that prefix every name of its state dict."""
    while True:
        # By name: importing the class of torch.compile costs seconds and a compiler.
        if type(model).__name__ == "OptimizedModule":
            inner = model._orig_mod
        elif isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = model.module
        else:
            return model
        assert isinstance(inner, nn.Module)
        model = inner


def _checked_problem(problem: Mapping[str, Any]) -> dict[str, Any]:
    """A deep copy of `problem` in plain JSON types."""
    for section, value in problem.items():
        if section not in HEADS:
            raise ValueError(
                f"save_checkpoint needs the sections of problem to be among "
                f"{', '.join(HEADS)}; got {section!r}."
            )
        if not isinstance(value, Mapping):
            raise ValueError(
                f"save_checkpoint needs problem.{section} to be a dict; got {value!r}."
            )
    return {section: _plain(value, f"problem.{section}") for section, value in problem.items()}


def _plain(value: object, where: str) -> Any:
    """A deep copy of `value`; `where` names it in the message of the ValueError."""
    if isinstance(value, Mapping):
        for key in value:
            if type(key) is not str:
                raise ValueError(
                    f"save_checkpoint needs the keys of {where} to be strings; got {key!r}."
                )
        return {key: _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    # The type itself, not isinstance: numpy.float64 is a float that weights_only does not load.
    if type(value) not in {str, int, float, bool, type(None)}:
        raise ValueError(
            f"save_checkpoint needs plain JSON types (str, int, float, bool, None, list, dict) in "
            f"problem; {where} holds a {_type_name(value)}."
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"save_checkpoint needs finite numbers in problem; {where} is {value}.")
    return value


def _type_name(value: object) -> str:
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}"
