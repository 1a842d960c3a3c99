"""`F.linear` by the product rule: 8 products of matrices where a call made again takes 12.

y = x W' + b, and along v = (V, c): y* = x* W' + x V' + c. On the way back, with s and s* those of
y, x gets s W and s* W + s V; H v gets s*' x + s' x* for W, and the sum of s* for b.
"""

from __future__ import annotations

from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from curvtool.operators.sharding.parameter import ShardedParameter
from curvtool.operators.sharding.sweep import Dual, Sweep, joined, taken


@final
class Linear:
    """One call.

    Args:
        sweep: that the call belongs to.
        x: inputs, shape (..., in).
        weight: W, shape (out, in).
        bias: b, shape (out,).
    """

    def __init__(
        self,
        sweep: Sweep,
        x: Tensor,
        weight: ShardedParameter,
        bias: ShardedParameter | None,
    ) -> None:
        self._sweep = sweep
        self._weight, self._bias = weight, bias
        self._x: Dual | None = taken(x)

    @classmethod
    def of(cls, sweep: Sweep, *args: Any, **kwargs: Any) -> Linear | None:
        """The rule for arguments of `F.linear`; None where it does not apply to them."""
        x, weight, bias = _arguments(*args, **kwargs)
        activation = isinstance(x, Tensor) and not isinstance(x, ShardedParameter)
        if not activation or not isinstance(weight, ShardedParameter) or weight.dim() != 2:
            return None
        if bias is not None and not isinstance(bias, ShardedParameter):
            return None
        return cls(sweep, x, weight, bias)

    def forward(self) -> Tensor:
        """y, dual in a product, without graph."""
        with torch.no_grad():
            assert self._x is not None
            x, dx = self._x
            W = self._sweep.whole(self._weight)
            y = F.linear(x, W, None if self._bias is None else self._sweep.whole(self._bias))
            dy = None if dx is None else F.linear(dx, W)
            del W
            V = self._sweep.direction(self._weight)
            if V is not None:
                dy = F.linear(x, V) if dy is None else dy.add_(F.linear(x, V))
            c = None if self._bias is None else self._sweep.direction(self._bias)
            if c is not None:
                dy = c.expand_as(y).clone() if dy is None else dy.add_(c)
            return joined(y, dy)

    def given_up(self) -> list[Tensor | None]:
        """The inputs and their derivative; the call is without them from now on."""
        assert self._x is not None
        kept, self._x = list(self._x), None
        return kept

    def backward(
        self, kept: list[Tensor | None], needed: list[bool], sensitivities: list[Dual]
    ) -> list[Dual | None]:
        """Derivatives of x; those of W and b go to the sweep.

        Args:
            kept: x and its derivative.
            needed: whether that of x is asked for.
            sensitivities: s and s*.

        Returns:
            One, or None where it is not needed.
        """
        (x, dx), ((s, ds),) = kept, sensitivities
        with torch.no_grad():
            found = self._of_x(s, ds) if needed[0] else None
            rows = [t if t is None else t.reshape(-1, t.shape[-1]) for t in (x, dx, s, ds)]
            self._contribute(*rows)
        return [found]

    def _of_x(self, s: Tensor, ds: Tensor | None) -> Dual:
        W = self._sweep.whole(self._weight)
        value = s @ W
        if not self._sweep.dual:
            return value, None
        tangent = torch.zeros_like(value) if ds is None else ds @ W
        del W
        V = self._sweep.direction(self._weight)
        return value, tangent if V is None else tangent.add_(s @ V)

    def _contribute(
        self, x: Tensor | None, dx: Tensor | None, s: Tensor | None, ds: Tensor | None
    ) -> None:
        assert x is not None and s is not None  # noqa: PT018
        if self._weight.differentiated:
            self._sweep.add(self._weight, self._of_weight(x, dx, s, ds))
        if self._bias is not None and self._bias.differentiated:
            of_bias = ds if self._sweep.dual else s
            self._sweep.add(
                self._bias, s.new_zeros(s.shape[-1]) if of_bias is None else of_bias.sum(0)
            )

    def _of_weight(self, x: Tensor, dx: Tensor | None, s: Tensor, ds: Tensor | None) -> Tensor:
        if not self._sweep.dual:
            return s.T @ x
        total = (
            torch.zeros(self._weight.shape, dtype=s.dtype, device=s.device)
            if ds is None
            else ds.T @ x
        )
        return total if dx is None else total.addmm_(s.T, dx)


def _arguments(input: Any, weight: Any, bias: Any = None) -> tuple[Any, Any, Any]:
    """Those of `F.linear`, by their names there."""
    return input, weight, bias
