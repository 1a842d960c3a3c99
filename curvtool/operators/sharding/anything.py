"""A call of any function: on the way back it is made again and differentiated."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeGuard, final

import torch
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_leaves, tree_unflatten

from curvtool.operators.sharding.parameter import ShardedParameter
from curvtool.operators.sharding.sweep import Dual, Sweep, bare, joined, taken

_IN_PLACE = re.compile(r"__i[a-z]+__|[a-z].*[^_]_")


def is_number(value: object) -> TypeGuard[Tensor]:
    """Whether something is a tensor that may have a derivative."""
    return isinstance(value, Tensor) and value.is_floating_point()


def is_activation(value: object) -> TypeGuard[Tensor]:
    """Whether something is such a tensor, and no parameter."""
    return is_number(value) and not isinstance(value, ShardedParameter)


def writes_over(func: Callable[..., Any]) -> bool:
    """Whether a function's result takes the place of its first argument."""
    return bool(_IN_PLACE.fullmatch(getattr(func, "__name__", "")))


@final
class Remade:
    """One call of a function.

    Args:
        sweep: that the call belongs to.
        func: any function of torch.
        leaves: its arguments' leaves, stand-ins among them.
        spec: how they make up arguments.
    """

    def __init__(
        self, sweep: Sweep, func: Callable[..., Any], leaves: list[Any], spec: TreeSpec
    ) -> None:
        self._sweep, self._func, self._spec = sweep, func, spec
        # Activations and beside them their derivatives; the rest as it came.
        self._inputs = [taken(x) if is_activation(x) else (x, None) for x in leaves]
        self._activations = [is_activation(x) for x in leaves]
        if writes_over(func) and self._activations[0]:
            value, tangent = self._inputs[0]
            self._inputs[0] = value.clone(), None if tangent is None else tangent.clone()

    def forward(self) -> Any:
        """What the function gives, dual in a product, without graph."""
        with torch.no_grad():
            return self._run([
                joined(self._sweep.whole(x), self._sweep.direction(x))
                if isinstance(x, ShardedParameter)
                else joined(x.data if is_number(x) else x, tangent)
                for x, tangent in self._inputs
            ])

    def given_up(self) -> list[Tensor | None]:
        """The activations and their derivatives in turn; the call is without them from now on."""
        kept = [t for dual in self._duals() for t in dual]
        self._inputs = [
            (None, None) if yes else x
            for x, yes in zip(self._inputs, self._activations, strict=True)
        ]
        return kept

    def backward(
        self, kept: list[Tensor | None], needed: list[bool], sensitivities: list[Dual]
    ) -> list[Dual | None]:
        """Make the call again and differentiate it.

        Args:
            kept: as `given_up` gave them.
            needed: for each activation, whether its derivative is asked for.
            sensitivities: of the outputs.

        Returns:
            One for each activation; None where it is not needed. Parameters' go to the sweep.
        """
        leaves: list[Any] = []
        asked, at = iter(needed), iter(kept)
        wanted: list[Tensor] = []
        mine: list[ShardedParameter] = []
        of_parameters: list[Tensor] = []
        for (x, tangent), is_activation in zip(self._inputs, self._activations, strict=True):
            if isinstance(x, ShardedParameter):
                value = self._sweep.whole(x).data.requires_grad_(x.differentiated)
                leaves.append(joined(value, self._sweep.direction(x)))
                if x.differentiated:
                    mine.append(x)
                    of_parameters.append(leaves[-1])
            elif is_activation:
                need, x, tangent = next(asked), next(at), next(at)
                assert x is not None
                leaves.append(joined(x.data.requires_grad_(need), tangent))
                wanted += [leaves[-1]] if need else []
            else:
                leaves.append(x)
        del kept, at, x, tangent
        with torch.enable_grad():
            outputs = [t for t in tree_leaves(self._run(leaves)) if is_number(t)]
        del leaves
        reached = [i for i, t in enumerate(outputs) if t.requires_grad]
        count = len(wanted)
        found: list[Tensor | None] = [None] * (count + len(mine))
        if reached and found:
            found = list(
                torch.autograd.grad(
                    [outputs[i] for i in reached],
                    wanted + of_parameters,
                    [joined(*sensitivities[i]) for i in reached],
                    allow_unused=True,
                    create_graph=self._sweep.dual,
                    retain_graph=False,
                )
            )
        del outputs, of_parameters, wanted
        # What is left has no graph: with the last of these numbers the call's own graph is gone.
        derivatives = [None if d is None else bare(d) for d in found]
        del found
        contributions, derivatives = derivatives[count:][::-1], derivatives[:count]
        for parameter in mine:
            self._contribute(parameter, contributions.pop())
        left = iter(derivatives)
        return [next(left) if need else None for need in needed]

    def _contribute(self, parameter: ShardedParameter, found: Dual | None) -> None:
        part = None if found is None else found[1 if self._sweep.dual else 0]
        # All ranks take part, whoever has nothing to give; what there is may be somebody else's.
        whole = torch.zeros(parameter.shape, dtype=parameter.dtype, device=parameter.device)
        self._sweep.add(parameter, whole if part is None else whole.add_(part))

    def _run(self, leaves: list[Any]) -> Any:
        if writes_over(self._func):
            leaves[0] = leaves[0].clone()
        args, kwargs = tree_unflatten(leaves, self._spec)
        return self._func(*args, **kwargs)

    def _duals(self) -> list[Dual]:
        return [x for x, yes in zip(self._inputs, self._activations, strict=True) if yes]
