"""Reverse over reverse: backward through the gradient, its graph kept or rebuilt.

H v = d/dtheta (g(theta) . v) with g the gradient (Pearlmutter 1994). The gradient's graph does
not depend on v, so that it can be built once and kept: what is left is one backward pass, about
two gradients (6 of the 9 forward passes that a rebuilt product costs).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from curvtool.operators.memory import SavedBytes
from curvtool.operators.ways.base import Keeper, Pieces, summed
from curvtool.problem.objective import Objective
from curvtool.problem.twice import twice_differentiable


@final
@dataclass(frozen=True, eq=False)
class GradientGraph:
    """The graph of a batch's gradient, by the edges at which its pieces come out.

    The gradient itself, P numbers a batch, is not kept: a backward pass starts at edges.
    """

    edges: tuple[GradientEdge, ...]  # of pieces with a graph; an affine part of the loss has none
    places: tuple[int, ...]  # their positions among the parameters
    parameters: tuple[Tensor, ...]

    def product(self, v: Pieces, *, keep: bool, batched: bool = False) -> Pieces:
        """One backward pass through the gradient's graph; `batched` v has a dimension more."""
        if not self.edges:
            return [torch.zeros_like(piece) for piece in v]
        # For activation checkpointing, which runs the model again.
        with twice_differentiable(dtype=self.parameters[0].dtype):
            return torch.autograd.grad(
                self.edges,
                self.parameters,
                grad_outputs=[v[i] for i in self.places],
                retain_graph=keep,
                is_grads_batched=batched,
                materialize_grads=True,
            )

    def restricted(self, v: Mapping[int, Tensor]) -> Mapping[int, Tensor]:
        """A backward pass from some pieces of the gradient to the parameters of the same places."""
        block = GradientGraph(
            tuple(e for e, i in zip(self.edges, self.places, strict=True) if i in v),
            tuple(i for i in self.places if i in v),
            tuple(self.parameters[i] for i in v),
        )
        if not block.edges:
            return {i: torch.zeros_like(piece) for i, piece in v.items()}
        every = [v.get(i, piece) for i, piece in enumerate(self.parameters)]
        return dict(zip(v, block.product(every, keep=True), strict=True))


def gradient_graph(objective: Objective, index: int) -> GradientGraph:
    """Differentiate a batch's term once, keeping the graph.

    Args:
        objective: the objective.
        index: of the batch.

    Returns:
        The graph. Costs one gradient of the batch.
    """
    gradients = objective.batch_gradient(index)
    places = tuple(i for i, g in enumerate(gradients) if g.requires_grad)
    edges = tuple(get_gradient_edge(gradients[i]) for i in places)
    return GradientGraph(edges, places, tuple(objective.parameters))


def graph_bytes(objective: Objective, index: int) -> int:
    """Memory that the kept gradient graph of one batch takes; costs one gradient.

    Args:
        objective: the objective.
        index: the batch.

    Returns:
        Bytes of distinct tensors the graph holds, without those of the model and resident data.
    """
    objective.share(index)  # which evaluates the objective where nobody has: not to be counted
    with SavedBytes(objective.resident_tensors(index)) as saved:
        graph = gradient_graph(objective, index)
        del graph
    return saved.total


@final
class RetainedGraphs(Keeper):
    """The graph of every kept batch's gradient."""

    def __init__(self, objective: Objective) -> None:
        super().__init__(objective)
        self._graphs: dict[int, GradientGraph] = {}
        # Batches of one shape take the same; another shape costs one more gradient to know.
        self._known: dict[tuple[torch.Size, ...], int] = {}

    def keep(self, index: int, *, room: float) -> bool:
        """Build the batch's graph: one gradient, and one more for the first of a shape."""
        if room < float("inf"):
            needed = self._needed(index)
            if needed > room:
                return False
            self.bytes += needed
        self._graphs[index] = gradient_graph(self.objective, index)
        self.indices.append(index)
        return True

    def _needed(self, index: int) -> int:
        shapes = self.objective.shapes(index)
        if shapes not in self._known:
            self._known[shapes] = graph_bytes(self.objective, index)
        return self._known[shapes]

    def term(self, index: int, v: Pieces) -> Pieces:
        """One backward pass: about two gradients."""
        return self._graphs[index].product(v, keep=True)

    def restricted(self, index: int, v: Mapping[int, Tensor]) -> Mapping[int, Tensor]:
        """One backward pass, cut short at the block's own parameters."""
        return self._graphs[index].restricted(v)

    def products(self, block: Pieces) -> Pieces:
        """One backward pass a batch under vmap: memory of so many products at once."""
        return summed(g.product(block, keep=True, batched=True) for g in self._graphs.values())


def reverse_over_reverse(objective: Objective, index: int, v: Pieces) -> Pieces:
    """The batch's part of H v by two backward passes, nothing kept: about three gradients."""
    return gradient_graph(objective, index).product(v, keep=False)


def double_vjp(objective: Objective, index: int, v: Pieces) -> Pieces:
    """The batch's part of H v by the R-operator made of two vector-Jacobian products.

    J u' of the gradient is linear in u, so that its derivative by u, times v, is J v (Townsend
    2017, "A new trick for calculating Jacobian vector products"). About five gradients; there
    for the record.

    Args:
        objective: the objective.
        index: of the batch.
        v: the vector's pieces.

    Returns:
        The part's pieces.
    """
    gradients = objective.batch_gradient(index)
    places = [i for i, g in enumerate(gradients) if g.requires_grad]
    product = [torch.zeros_like(piece) for piece in v]
    if not places:
        return product
    parameters = tuple(objective.parameters)
    with torch.enable_grad():
        u = [torch.zeros_like(gradients[i], requires_grad=True) for i in places]
        transposed = torch.autograd.grad(
            [gradients[i] for i in places], parameters, u, create_graph=True, materialize_grads=True
        )
    linear = [(t, piece) for t, piece in zip(transposed, v, strict=True) if t.requires_grad]
    found = torch.autograd.grad(
        [t for t, _ in linear], u, [piece for _, piece in linear], materialize_grads=True
    )
    for place, piece in zip(places, found, strict=True):
        product[place] = piece
    return product
