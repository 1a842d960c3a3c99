"""The Hessian of an objective by exact products.

H v = d/dtheta (g(theta) . v) with g the gradient (Pearlmutter 1994). The gradient's graph does
not depend on v, so that it can be built once and kept: what is left is one backward pass, about
two gradients (6 of the 9 forward passes that a rebuilt product costs).
Letters: P parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from curvtool.operators.memory import SavedBytes
from curvtool.problem.objective import Objective

WAYS = ("retained-graph", "reverse-over-reverse")


@final
@dataclass(frozen=True, eq=False)
class _GradientGraph:
    """Gradient of some batches with its graph: tensors that depend on the parameters."""

    gradients: tuple[Tensor, ...]  # those that have a graph; an affine part of the loss has none
    places: tuple[int, ...]  # their positions among the parameters
    index: int  # of one of the batches

    def product(self, objective: Objective, v: Sequence[Tensor], *, keep: bool) -> Sequence[Tensor]:
        """One backward pass through the gradient's graph."""
        if not self.gradients:
            return [torch.zeros_like(p) for p in objective.parameters]
        with objective.missing_derivatives_named(self.index):
            return torch.autograd.grad(
                self.gradients,
                objective.parameters,
                grad_outputs=[v[i] for i in self.places],
                retain_graph=keep,
                materialize_grads=True,
            )


def _gradient_graph(objective: Objective, indices: Sequence[int]) -> _GradientGraph:
    """Differentiate the batches' terms once, keeping the graph."""
    # The batches' gradients are added up, which keeps no vector of P numbers per batch: a sum's
    # backward needs none of its terms.
    total: list[Tensor] = []
    for index in indices:
        gradients = objective.batch_gradient(index)
        # A caller may stand under no_grad, where a sum would lose the graph and H be zero.
        with torch.enable_grad():
            if total:
                gradients = tuple(a + b for a, b in zip(total, gradients, strict=True))
            total = [*gradients]
    places = [i for i, g in enumerate(total) if g.requires_grad]
    return _GradientGraph(tuple(total[i] for i in places), tuple(places), indices[0])


@final
class HessianOperator:
    """H of the objective; `matvec` is exact to rounding and costs 2 to 3 gradients.

    With way `retained-graph` as many batches as `graph_memory` bytes hold keep their graph, the
    others are rebuilt at every product; with `reverse-over-reverse` all are rebuilt.

    Raises:
        ValueError: for a way that is not in `WAYS`.
    """

    def __init__(
        self, objective: Objective, *, way: str = "retained-graph", graph_memory: int | None = None
    ) -> None:
        if way not in WAYS:
            raise ValueError(f"HessianOperator knows the ways {', '.join(WAYS)}; got {way!r}.")
        self.objective = objective
        self.way = way
        self.kept: tuple[int, ...] = ()
        self.bytes_kept = 0
        self._graph: _GradientGraph | None = None
        if way == "retained-graph":
            self._keep(graph_memory)
        self._rebuilt = tuple(i for i in objective.active if i not in set(self.kept))

    @property
    def size(self) -> int:
        """P."""
        return self.objective.size

    @property
    def dtype(self) -> torch.dtype:
        """Of the parameters and of the vectors."""
        return self.objective.dtype

    @property
    def device(self) -> torch.device:
        """Of the parameters and of the vectors."""
        return self.objective.device

    def _keep(self, limit: int | None) -> None:
        objective = self.objective
        if limit is None:
            self.kept = objective.active
        else:
            # Batches of one shape take the same; another shape costs one more gradient to know.
            known: dict[tuple[torch.Size, ...], int] = {}
            kept = []
            for index in objective.active:
                shapes = tuple(t.shape for t in objective.batch(index).tensors)
                if shapes not in known:
                    known[shapes] = graph_bytes(objective, index)
                if self.bytes_kept + known[shapes] > limit:
                    break
                self.bytes_kept += known[shapes]
                kept.append(index)
            self.kept = tuple(kept)
        if self.kept:
            self._graph = _gradient_graph(objective, self.kept)

    def matvec(self, v_P: Tensor, /) -> Tensor:
        """H v, shape (P,)."""
        # Contiguous, since matrix products of strided vectors round in another order.
        objective, v_P = self.objective, v_P.detach().contiguous()
        v = objective.layout.split(v_P)
        Hv_P = v_P * objective.weight_decay
        if self._graph is not None:
            Hv_P += objective.layout.join(self._graph.product(objective, v, keep=True))
        for index in self._rebuilt:
            graph = _gradient_graph(objective, [index])
            Hv_P += objective.layout.join(graph.product(objective, v, keep=False))
        return Hv_P


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
        graph = _gradient_graph(objective, [index])
        del graph
    return saved.total
