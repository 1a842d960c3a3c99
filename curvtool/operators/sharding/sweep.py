"""One evaluation of a loss and its way back, with numbers that carry their derivative along v.

Letters: p numbers of this rank's part of a vector.
"""

from __future__ import annotations

from typing import final

import torch.autograd.forward_ad as forward_ad
from torch import Tensor

from curvtool.operators.sharding.parameter import ShardedParameter

# A value and, in a product, its derivative along v.
Dual = tuple[Tensor, Tensor | None]


@final
class Sweep:
    """What a loss's calls share: the vector they add to and the direction.

    Args:
        into_p: what parameters' derivatives are added to: the gradient, or H v.
        v_p: the direction; None for the gradient. With one, there has to be a dual level.

    Attributes:
        dual: whether there is a direction.
        anchor: a number that every call depends on, so that the way back reaches all of them.
    """

    def __init__(self, into_p: Tensor, v_p: Tensor | None) -> None:
        self._into_p, self._v_p = into_p, v_p
        self.dual = v_p is not None
        self.anchor = into_p.new_zeros((), requires_grad=True)
        if self.dual:
            self.anchor = joined(self.anchor, into_p.new_zeros(()))

    def whole(self, parameter: ShardedParameter) -> Tensor:
        """A parameter's numbers; all ranks take part."""
        return whole(parameter)

    def direction(self, parameter: ShardedParameter) -> Tensor | None:
        """Those of v in its place; None where nothing is differentiated along it."""
        if self._v_p is None or not parameter.differentiated:
            return None
        return parameter.store.gathered(parameter.place, self._v_p)

    def add(self, parameter: ShardedParameter, values: Tensor) -> None:
        """Add the ranks' sum in a parameter's place; `values` is written over."""
        parameter.store.scattered(parameter.place, values, self._into_p)


def whole(parameter: ShardedParameter) -> Tensor:
    """A parameter's numbers; all ranks take part."""
    return parameter.store.gathered(parameter.place, parameter.store.part_p)


def joined(value: Tensor, tangent: Tensor | None) -> Tensor:
    """A number with its derivative, as torch's forward mode has it."""
    if tangent is None:
        return value
    dual: Tensor = forward_ad.make_dual(value, tangent)  # type: ignore[no-untyped-call]
    return dual


def taken(t: Tensor) -> Dual:
    """An activation as a call keeps it: its value with graph, its derivative without.

    The value has the graph so that autograd keeps the numbers alone: of a detached one it would
    keep what that was detached from, the derivative's own graph included.

    Args:
        t: dual in a product.

    Returns:
        Both; None where there is no derivative.
    """
    value, tangent = forward_ad.unpack_dual(t)  # type: ignore[no-untyped-call]
    return value, None if tangent is None else tangent.data


def bare(t: Tensor) -> Dual:
    """A number and its derivative, without anything that they were made of."""
    # By `data`, since `detach` makes a view in forward mode, which holds on to its base.
    value, tangent = forward_ad.unpack_dual(t)  # type: ignore[no-untyped-call]
    return value.data, None if tangent is None else tangent.data
