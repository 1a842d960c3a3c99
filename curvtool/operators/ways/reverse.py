"""Reverse over reverse: backward through the gradient, its graph kept or rebuilt.

H v = d/dtheta (g(theta) . v) with g the gradient (Pearlmutter 1994). The gradient's graph does
not depend on v, so that it can be built once and kept: what is left is one backward pass, about
two gradients (6 of the 9 forward passes that a rebuilt product costs).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from curvtool.operators.memory import SavedBytes
from curvtool.operators.ways.base import Keeper, Pieces
from curvtool.problem.objective import Objective


@final
@dataclass(frozen=True, eq=False)
class GradientGraph:
    """Gradient of some batches with its graph: tensors that depend on the parameters."""

    gradients: tuple[Tensor, ...]  # those that have a graph; an affine part of the loss has none
    places: tuple[int, ...]  # their positions among the parameters
    parameters: tuple[Tensor, ...]

    def product(self, v: Pieces, *, keep: bool, batched: bool = False) -> Pieces:
        """One backward pass through the gradient's graph; `batched` v has a dimension more."""
        if not self.gradients:
            return [torch.zeros_like(piece) for piece in v]
        return torch.autograd.grad(
            self.gradients,
            self.parameters,
            grad_outputs=[v[i] for i in self.places],
            retain_graph=keep,
            is_grads_batched=batched,
            materialize_grads=True,
        )


def gradient_graph(objective: Objective, indices: Sequence[int]) -> GradientGraph:
    """Differentiate the batches' terms once, keeping the graph.

    Args:
        objective: the objective.
        indices: of its batches.

    Returns:
        The summed gradient with its graph. Costs one gradient of the batches.
    """
    total: Sequence[Tensor] = ()
    for index in indices:
        total = _plus(total, objective.batch_gradient(index))
    return _with_graph(objective, total)


def _plus(total: Sequence[Tensor], gradients: Sequence[Tensor]) -> Sequence[Tensor]:
    # The batches' gradients are added up, which keeps no vector of P numbers per batch: a sum's
    # backward needs none of its terms.
    if not total:
        return gradients
    with torch.enable_grad():  # a caller under no_grad would lose the graph, and H be zero
        return [a + b for a, b in zip(total, gradients, strict=True)]


def _with_graph(objective: Objective, gradients: Sequence[Tensor]) -> GradientGraph:
    places = tuple(i for i, g in enumerate(gradients) if g.requires_grad)
    chosen = tuple(gradients[i] for i in places)
    return GradientGraph(chosen, places, tuple(objective.parameters))


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
        graph = gradient_graph(objective, [index])
        del graph
    return saved.total


@final
class RetainedGraphs(Keeper):
    """One graph of the summed gradient of all kept batches."""

    def __init__(self, objective: Objective) -> None:
        super().__init__(objective)
        self._total: Sequence[Tensor] = ()
        self._graph = GradientGraph((), (), ())
        # Batches of one shape take the same; another shape costs one more gradient to know.
        self._known: dict[tuple[torch.Size, ...], int] = {}

    def keep(self, index: int, *, room: float) -> bool:
        """Build the batch's graph: one gradient, and one more for the first of a shape."""
        if room < float("inf"):
            needed = self._needed(index)
            if needed > room:
                return False
            self.bytes += needed
        self._total = _plus(self._total, self.objective.batch_gradient(index))
        self._graph = _with_graph(self.objective, self._total)
        self.indices.append(index)
        return True

    def _needed(self, index: int) -> int:
        shapes = self.objective.shapes(index)
        if shapes not in self._known:
            self._known[shapes] = graph_bytes(self.objective, index)
        return self._known[shapes]

    def product(self, v: Pieces) -> Pieces:
        """One backward pass: about two gradients."""
        return self._graph.product(v, keep=True)

    def products(self, block: Pieces) -> Pieces:
        """One backward pass under vmap: memory of so many products at once."""
        return self._graph.product(block, keep=True, batched=True)


def reverse_over_reverse(objective: Objective, index: int, v: Pieces) -> Pieces:
    """The batch's part of H v by two backward passes, nothing kept: about three gradients."""
    return gradient_graph(objective, [index]).product(v, keep=False)


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
    graph = gradient_graph(objective, [index])
    if not graph.gradients:
        return [torch.zeros_like(piece) for piece in v]
    with torch.enable_grad():
        u = [torch.zeros_like(g, requires_grad=True) for g in graph.gradients]
        transposed = torch.autograd.grad(
            graph.gradients, graph.parameters, u, create_graph=True, materialize_grads=True
        )
    linear = [(t, piece) for t, piece in zip(transposed, v, strict=True) if t.requires_grad]
    found = torch.autograd.grad(
        [t for t, _ in linear], u, [piece for _, piece in linear], materialize_grads=True
    )
    product = [torch.zeros_like(piece) for piece in v]
    for place, piece in zip(graph.places, found, strict=True):
        product[place] = piece
    return product
