"""A copy of a module, whatever its forward pass has left in it."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn


def copied(module: nn.Module) -> nn.Module:
    """A deep copy; tensors with a graph that a forward pass kept are copied without it."""
    # Research code keeps attention maps and hidden states as attributes, the old weight_norm its
    # product: tensors that `copy.deepcopy` refuses.
    memo: dict[int, Any] = {}
    for child in module.modules():
        _detach(vars(child), memo)
    twin: nn.Module = copy.deepcopy(module, memo)
    for child in twin.modules():
        for name, parameter in child.named_parameters(recurse=False):
            if not parameter.is_leaf:  # TorchScript copies by clones that keep their graph
                own = nn.Parameter(parameter.detach(), requires_grad=parameter.requires_grad)
                setattr(child, name, own)
    return twin


def has_float64(module: nn.Module) -> bool:
    """Whether it has weights or buffers of more digits than float32's."""
    own = (*module.parameters(), *module.buffers())
    return any(tensor.dtype == torch.float64 for tensor in own)


def _detach(value: Any, memo: dict[int, Any]) -> None:
    """Enter into `memo` what takes the place of each tensor with a graph."""
    if isinstance(value, Tensor):
        if value.grad_fn is not None:
            memo[id(value)] = value.detach().clone()
    elif isinstance(value, dict):
        for item in value.values():
            _detach(item, memo)
    elif isinstance(value, list | tuple):
        for item in value:
            _detach(item, memo)
