"""The ways by the names that `--hvp` takes."""

from __future__ import annotations

from collections.abc import Mapping

from curvtool.operators.ways.base import Way
from curvtool.operators.ways.compiled import CompiledBatches
from curvtool.operators.ways.differences import finite_difference
from curvtool.operators.ways.forward import forward_over_reverse, reverse_over_forward
from curvtool.operators.ways.linearized import Linearizations
from curvtool.operators.ways.reverse import RetainedGraphs, double_vjp, reverse_over_reverse

_ALL = (
    Way(
        "retained-graph",
        "the gradient's graph kept, one backward pass",
        keeper=RetainedGraphs,
        blocks=True,
        concurrent=True,
    ),
    Way(
        "compiled",
        "that backward pass under torch.compile",
        keeper=CompiledBatches,
        checked_as="retained-graph",
    ),
    Way(
        "linearized",
        "the gradient's linearisation kept",
        keeper=Linearizations,
        rest="forward-over-reverse",
        checked_as="forward-over-reverse",
        concurrent=True,
    ),
    Way("reverse-over-reverse", "backward through the gradient", rebuild=reverse_over_reverse),
    Way("forward-over-reverse", "the gradient along v", rebuild=forward_over_reverse),
    Way(
        "reverse-over-forward",
        "the gradient of the slope along v",
        rebuild=reverse_over_forward,
    ),
    Way("double-vjp", "two vector-Jacobian products", rebuild=double_vjp),
    Way(
        "finite-difference",
        "central differences of the gradient",
        rebuild=finite_difference,
        exact=False,
    ),
)
WAYS: Mapping[str, Way] = {way.name: way for way in _ALL}


def way_named(name: str) -> Way:
    """The way of that name.

    Args:
        name: as `--hvp` takes it.

    Returns:
        The way.

    Raises:
        ValueError: where there is none.
    """
    if name not in WAYS:
        raise ValueError(f"There are the ways {', '.join(WAYS)}; got {name!r}.")
    return WAYS[name]
