"""A model called with other tensors in its parameters' place, and the gradient of what it gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


class Calling(nn.Module):
    """A function as a module, so that the parameters can be replaced while it runs."""

    def __init__(self, module: nn.Module, function: Callable[[], object]) -> None:
        super().__init__()
        self.module = module
        self._function = function

    def forward(self) -> object:
        """Call the function."""
        return self._function()


def gradients(
    loss: Tensor, parameters: Sequence[Tensor], *, create_graph: bool
) -> tuple[Tensor, ...]:
    """Gradient of a loss, zeros where it does not depend on a parameter."""
    if not loss.requires_grad:
        return tuple(torch.zeros_like(p) for p in parameters)
    return torch.autograd.grad(loss, parameters, create_graph=create_graph, materialize_grads=True)
