"""A fully connected network. Letters: N examples, D inputs of one example, C outputs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import final

from torch import Tensor, nn

from curvtool.problem.models.parts import Activation, activation_named, flag, positives


def mlp(*, sizes: Sequence[int], activation: str = "relu", bias: bool = True) -> nn.Module:
    """Build a fully connected network: linear layers with an activation between them.

    Args:
        sizes: widths from the input to the output, at least two: [64, 32, 10] has two layers.
            Input of any shape (N, ...) is flattened to (N, D), D = sizes[0].
        activation: one of `parts.ACTIVATIONS`; none follows the last layer.
        bias: whether the layers add a vector.

    Returns:
        A module from (N, ...) to (N, C), C = sizes[-1]; parameters `layers.0.weight`, ...

    Raises:
        ValueError: for fewer than two sizes, a size below 1, or an unknown activation.
    """
    return _MLP(
        sizes=positives("mlp", "sizes", sizes, at_least=2),
        activation=activation_named("mlp", activation),
        bias=flag("mlp", "bias", bias),
    )


@final
class _MLP(nn.Module):
    """Linear layers with an activation between them."""

    def __init__(self, *, sizes: list[int], activation: Activation, bias: bool) -> None:
        super().__init__()
        self.activation = activation
        self.layers = nn.ModuleList(
            nn.Linear(fan_in, fan_out, bias=bias) for fan_in, fan_out in pairwise(sizes)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (N, ...) to (N, C)."""
        x_ND = inputs.flatten(start_dim=1)
        last = len(self.layers) - 1
        for i, layer in enumerate(self.layers):
            x_ND = layer(x_ND)
            if i < last:
                x_ND = self.activation(x_ND)
        return x_ND
