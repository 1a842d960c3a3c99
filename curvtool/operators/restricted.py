"""A diagonal block of H: the rows and columns of some parameter tensors.

Letters: P parameters of the whole, n of the block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from curvtool.operators.hessian import HessianOperator


@final
class RestrictedHessian:
    """The block of a Hessian that belongs to some of its tensors; what is kept is shared.

    With kept graphs a product is a backward pass from the block's part of the gradient to the
    block's parameters alone; other ways multiply by a vector that is zero elsewhere.

    Raises:
        ValueError: for no tensors, or such as the layout does not have.
    """

    def __init__(self, whole: HessianOperator, places: Sequence[int]) -> None:
        sizes = whole.objective.layout.sizes
        if not places or not set(places) <= set(range(len(sizes))):
            raise ValueError(
                f"A block needs some of the {len(sizes)} parameter tensors, got {list(places)}."
            )
        self.whole = whole
        self.places = tuple(sorted(set(places)))
        self._sizes = [sizes[i] for i in self.places]

    @property
    def size(self) -> int:
        """Rows of the block."""
        return sum(self._sizes)

    @property
    def dtype(self) -> torch.dtype:
        """Of the whole."""
        return self.whole.dtype

    @property
    def device(self) -> torch.device:
        """Of the whole."""
        return self.whole.device

    def matvec(self, v_n: Tensor, /) -> Tensor:
        """The block times a vector, shape (n,): at most one product of the whole."""
        shapes = self.whole.objective.layout.shapes
        pieces = torch.split(v_n.detach().contiguous(), self._sizes)
        v = {i: piece.view(shapes[i]) for i, piece in zip(self.places, pieces, strict=True)}
        found = self.whole.restricted_product(v)
        return torch.cat([found[i].reshape(-1) for i in self.places])
