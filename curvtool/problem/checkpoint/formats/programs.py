"""TorchScript and torch.export programs: code with weights in it, run only where it is trusted."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from curvtool.errors import InputError
from curvtool.problem.checkpoint.content import Content
from curvtool.problem.checkpoint.kind import Kind
from curvtool.problem.wording import first_line

_WHAT = {
    Kind.TORCHSCRIPT: ("a TorchScript program", "torch.jit.load", "program.state_dict()"),
    Kind.EXPORTED: ("a torch.export program (.pt2)", "torch.export.load", "program.state_dict"),
}


def read_program(path: Path, kind: Kind, *, trust: bool) -> Content:
    """Load a program as model and weights.

    Args:
        path: the file.
        kind: TORCHSCRIPT or EXPORTED.
        trust: whether its code may run.

    Returns:
        Its state dict, and what builds the module.

    Raises:
        InputError: where it is not trusted, or damaged.
    """
    what, load, weights = _WHAT[kind]
    if not trust:
        raise InputError(
            f"{path}: expected a checkpoint written by torch.save; got {what}, which is code that "
            f"loading would run. If you trust it, repeat the command with --trust: it is its own "
            f"model then. Or load it where you trust it with {load}, and save its weights: "
            f'torch.save({weights}, "weights.pt").'
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch.jit, which is deprecated and still there
            module = _module(path, kind)
    except Exception as error:
        raise InputError(
            f"{path}: expected {what} that this version of torch loads; it did not: "
            f"{first_line(error)}. Copy the file again, or save it anew with torch "
            f"{torch.__version__}."
        ) from error
    return Content(
        dict(module.state_dict()),
        (path,),
        (f"the checkpoint is {what}, and its code ran under --trust",),
        program=lambda: module,
    )


def _module(path: Path, kind: Kind) -> nn.Module:
    if kind is Kind.TORCHSCRIPT:
        load: Any = torch.jit.load
        scripted: nn.Module = load(str(path), map_location="cpu")
        return scripted
    exported = torch.export.load(path).module()
    # Its own ones refuse to be called: a program knows the one mode that it was exported in.
    for name, mode in (("train", _mode), ("eval", partial(_mode, wanted=False))):
        setattr(exported, name, partial(mode, exported))
    return exported


def _mode(module: nn.Module, wanted: bool = True) -> nn.Module:
    module.training = wanted
    return module
