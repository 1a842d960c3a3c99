"""The residual network of the benchmarks: a `file.py:build` hook for a problem spec."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut, BatchNorm after each convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        same = stride == 1 and inputs == outputs
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        inside = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(inside + self.shortcut(x))


class ResidualNet(nn.Module):
    """Stem, three blocks, mean over the image, linear head; for images (N, 28, 28)."""

    def __init__(self, stem: int, widths: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, stem, 3, padding=1, bias=False), nn.BatchNorm2d(stem), nn.ReLU()
        )
        inputs = (stem, *widths[:-1])
        strides = (1,) + (2,) * (len(widths) - 1)
        self.blocks = nn.Sequential(*map(ResidualBlock, inputs, widths, strides))
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of shape (N, classes)."""
        features: Tensor = self.blocks(self.stem(x.unsqueeze(1)))
        logits: Tensor = self.head(features.mean((2, 3)))
        return logits


def build(stem: int = 16, widths: tuple[int, ...] = (16, 32, 64), classes: int = 10) -> ResidualNet:
    """77,754 parameters by default."""
    return ResidualNet(stem, tuple(widths), classes)
