"""A small convolutional network. Letters: N examples, C channels, H height, W width, K classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import final

import torch.nn.functional as F
from torch import Tensor, nn

from curvtool.problem.models.parts import (
    Activation,
    activation_named,
    one_of,
    positive,
    positives,
)

_NORMS = ("batch", "group", "none")
_POOLS: dict[str, Callable[[Tensor], Tensor]] = {
    "max": lambda x: F.max_pool2d(x, 2),
    "avg": lambda x: F.avg_pool2d(x, 2),
    "none": lambda x: x,
}


def cnn(
    *,
    in_channels: int,
    channels: Sequence[int],
    classes: int,
    kernel_size: int = 3,
    norm: str = "batch",
    groups: int = 4,
    activation: str = "relu",
    pool: str = "max",
) -> nn.Module:
    """Build a convolutional classifier: blocks, a mean over the image, one linear layer.

    A block is a convolution that keeps height and width, a normalisation and an activation.
    Between two blocks `pool` halves height and width.

    Args:
        in_channels: channels of the images. With 1, input may be (N, H, W).
        channels: output channels of each block.
        classes: K, outputs of the linear layer.
        kernel_size: side of the convolutions; odd.
        norm: `batch`, `group` or `none`. A convolution has a bias only with `none`, where no
            normalisation would take it away again.
        groups: of the group normalisation; divides every entry of `channels`. Read only with
            norm `group`.
        activation: one of `parts.ACTIVATIONS`.
        pool: `max`, `avg` or `none`.

    Returns:
        A module from (N, C, H, W) to (N, K); parameters `blocks.0.conv.weight`,
        `blocks.0.norm.weight`, ..., `head.weight`, `head.bias`.

    Raises:
        ValueError: for a number below 1, an even kernel, an unknown name, or channels that the
            groups do not divide.
    """
    widths = positives("cnn", "channels", channels, at_least=1)
    if positive("cnn", "kernel_size", kernel_size) % 2 == 0:
        raise ValueError(
            f"cnn needs kernel_size to be odd, so that height and width stay; got {kernel_size}."
        )
    if one_of("cnn", "norm", norm, _NORMS) == "group":
        positive("cnn", "groups", groups)
        if any(width % groups for width in widths):
            raise ValueError(f"cnn needs groups={groups} to divide all channels; got {widths}.")
    return _CNN(
        widths=[positive("cnn", "in_channels", in_channels), *widths],
        classes=positive("cnn", "classes", classes),
        kernel_size=kernel_size,
        norm=norm,
        groups=groups,
        activation=activation_named("cnn", activation),
        pool=_POOLS[one_of("cnn", "pool", pool, _POOLS)],
    )


@final
class _CNN(nn.Module):
    """Blocks with pooling between them, a mean over the image, a linear head."""

    def __init__(
        self,
        *,
        widths: list[int],
        classes: int,
        kernel_size: int,
        norm: str,
        groups: int,
        activation: Activation,
        pool: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__()
        self.in_channels = widths[0]
        self.pool = pool
        self.blocks = nn.ModuleList(
            _Block(fan_in, fan_out, kernel_size, norm, groups, activation)
            for fan_in, fan_out in pairwise(widths)
        )
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W), or (N, H, W) of one channel, to (N, K)."""
        x_NCHW = images.unsqueeze(1) if images.ndim == 3 and self.in_channels == 1 else images
        # A convolution reads three axes as one image without the batch axis, and says nothing.
        if x_NCHW.ndim != 4 or x_NCHW.shape[1] != self.in_channels:
            raise ValueError(
                f"cnn needs images of shape (N, {self.in_channels}, H, W); "
                f"got {tuple(images.shape)}."
            )
        for i, block in enumerate(self.blocks):
            x_NCHW = block(self.pool(x_NCHW) if i else x_NCHW)
        logits_NK: Tensor = self.head(x_NCHW.mean(dim=(2, 3)))
        return logits_NK


@final
class _Block(nn.Module):
    """Convolution, normalisation, activation; height and width stay."""

    def __init__(
        self,
        fan_in: int,
        fan_out: int,
        kernel_size: int,
        norm: str,
        groups: int,
        activation: Activation,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            fan_in, fan_out, kernel_size, padding=kernel_size // 2, bias=norm == "none"
        )
        self.norm: nn.Module = nn.Identity()
        if norm == "batch":
            self.norm = nn.BatchNorm2d(fan_out)
        elif norm == "group":
            self.norm = nn.GroupNorm(groups, fan_out)
        self.activation = activation

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H, W)."""
        return self.activation(self.norm(self.conv(x_NCHW)))
