"""Calls of functions with parameters that are gathered for that time.

The product is forward over reverse: the loss is computed with dual numbers, and the gradient of
that carries H v. A call leaves no graph of its own behind, and no gathered numbers: on the way back
it is made once more. What it contributes to a parameter is summed over the ranks at once, and every
rank keeps its piece. So a rank holds its pieces, what one call needs, and the activations.

Reverse over reverse with the gather as a function of autograd is exact, too. But the engine adds up
what both passes contribute to a gathered parameter before that goes back to its pieces, and between
the passes it holds this for all parameters: L + 1 layers of L were seen, whether saved tensors are
released and gathered again or `torch.utils.checkpoint` makes the layers again.

In a dual level torch frees what tanh, exp, sigmoid, softmax and the like made with a graph only
when the level ends (2.14.1: value and derivative hold each other), so that activations are freed at
the end of a batch and not on the way back.

Letters: p numbers of this rank's part of a vector.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Protocol, final

import torch
import torch.autograd.forward_ad as forward_ad
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from curvtool.errors import InputError
from curvtool.operators.sharding.anything import Remade, is_activation, is_number, writes_over
from curvtool.operators.sharding.linear import Linear
from curvtool.operators.sharding.parameter import ShardedParameter
from curvtool.operators.sharding.sweep import Dual, Sweep, bare, joined, whole
from curvtool.operators.ways.forward import quiet_forward_mode


class Rule(Protocol):
    """How one call is made, and differentiated."""

    def forward(self) -> Any:
        """What the function gives, dual in a product, without graph."""
        ...

    def given_up(self) -> list[Tensor | None]:
        """The activations, which autograd is to keep: it checks that nobody writes over them."""
        ...

    def backward(
        self, kept: list[Tensor | None], needed: list[bool], sensitivities: list[Dual]
    ) -> list[Dual | None]:
        """Derivatives of the activations; those of parameters go to the sweep."""
        ...


@final
class Calls:
    """Makes the calls of a model whose parameters are `ShardedParameter`.

    Without a sweep, or without grad mode, a call is made with whole parameters and no derivative.
    """

    def __init__(self) -> None:
        self._sweep: Sweep | None = None

    def derivatives_added(
        self, loss: Callable[[], Tensor], into_p: Tensor, v_p: Tensor | None = None
    ) -> Tensor:
        """Add a loss's gradient, or its Hessian's product with a vector, to this rank's part.

        Args:
            loss: computes it on this rank's examples; called once. All ranks take part.
            into_p: what is added to: the sum over all ranks.
            v_p: this rank's part of the vector; None for the gradient.

        Returns:
            The loss of this rank's examples, without graph.
        """
        with contextlib.ExitStack() as stack:
            if v_p is not None:
                stack.enter_context(quiet_forward_mode())
                stack.enter_context(forward_ad.dual_level())
            stack.enter_context(torch.enable_grad())
            self._sweep = Sweep(into_p, v_p)
            try:
                value = loss()
                if value.requires_grad:
                    # Some derivatives are dual only where they have a graph (torch 2.14).
                    torch.autograd.grad(
                        value,
                        self._sweep.anchor,
                        allow_unused=True,
                        create_graph=self._sweep.dual,
                        retain_graph=False,
                    )
                return bare(value)[0]
            finally:
                self._sweep = None

    def called(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call a function with whole parameters in the place of their stand-ins.

        Args:
            func: any function of torch.
            args: its arguments.
            kwargs: likewise.

        Returns:
            What it gives, differentiable where a sweep is going on.

        Raises:
            InputError: where the function changes a parameter.
        """
        leaves, spec = tree_flatten((args, kwargs))
        parameters = [leaf for leaf in leaves if isinstance(leaf, ShardedParameter)]
        if writes_over(func) and isinstance(leaves[0], ShardedParameter):
            raise InputError(
                f"The model changes a parameter in place ({func.__name__}), which is not possible "
                "where parameters are shared out over ranks. Take that out of its forward pass, or "
                "run without --shard-params."
            )
        if self._sweep is None or not torch.is_grad_enabled():
            filled = [whole(x) if isinstance(x, ShardedParameter) else x for x in leaves]
            args, kwargs = tree_unflatten(filled, spec)
            return func(*args, **kwargs)
        rule: Rule | None = None
        if func is F.linear:
            rule = Linear.of(self._sweep, *args, **kwargs)
        rule = rule or Remade(self._sweep, func, leaves, spec)
        activations = [leaf for leaf in leaves if is_activation(leaf)]
        anchor = self._sweep.anchor if any(p.differentiated for p in parameters) else None
        found = _differentiable(rule, anchor, activations)
        return leaves[0].copy_(found) if writes_over(func) else found


def _differentiable(rule: Rule, anchor: Tensor | None, activations: list[Tensor]) -> Any:
    """What a rule's forward gives, with the rule as its derivative."""
    leaves, spec = tree_flatten(rule.forward())
    outputs = [bare(leaf) for leaf in leaves if is_number(leaf)]
    tensors = iter(_Call.apply(rule, outputs, anchor, *activations))
    return tree_unflatten([next(tensors) if is_number(leaf) else leaf for leaf in leaves], spec)


class _Call(torch.autograd.Function):
    """A rule among the functions of autograd."""

    @staticmethod
    def forward(_rule: Rule, outputs: list[Dual], *_: Tensor | None) -> tuple[Tensor, ...]:
        """What the rule has found."""
        return tuple(value for value, _ in outputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _output: Any) -> None:
        """Keep the rule."""
        ctx.rule, outputs = inputs[:2]
        # By autograd rather than by the rule, so that activation checkpointing may drop them.
        ctx.save_for_backward(*ctx.rule.given_up())
        ctx.tangents = [torch.zeros_like(v) if t is None else t for v, t in outputs]

    @staticmethod
    def jvp(ctx: Any, *_: Any) -> tuple[Tensor, ...]:
        """The derivatives along v that the rule has found."""
        return tuple(ctx.tangents)

    @staticmethod
    def backward(ctx: Any, *sensitivities: Tensor) -> tuple[Tensor | None, ...]:
        """The rule's, dual in a product."""
        needed = list(ctx.needs_input_grad[3:])
        found = ctx.rule.backward(list(ctx.saved_tensors), needed, [bare(s) for s in sensitivities])
        return None, None, None, *(None if d is None else joined(*d) for d in found)
