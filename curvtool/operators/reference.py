"""Products in float64, which say how far those of a solve are off: few, over the whole dataset.

A float32 product errs by its own rounding and wherever rounding decides on which side of a kink an
example stands; neither shows without float64, and neither shows on a few examples. For a solve in
float64 the batches are cut in two, so that sums are made in another order.

Letters: P parameters, n of a block, k rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from curvtool.errors import CurvtoolError, PreflightError
from curvtool.operators.base import NoReference
from curvtool.operators.memory import is_shortage
from curvtool.operators.recording import Recorder, fingerprint
from curvtool.operators.summing import rest_added
from curvtool.operators.ways.base import Keeper, Pieces, embedded
from curvtool.operators.ways.registry import way_named
from curvtool.problem.objective import Objective
from curvtool.problem.wording import first_line

# Rows that go through one forward pass: their sums lie beside each other in float64.
ROWS = 32


@final
class Twin:
    """An objective in float64, made at its first use, with the graphs that there is room for.

    Args:
        objective: that it is the twin of.
        way: how its products are made.
        room: bytes that its graphs may take between products.
    """

    def __init__(self, objective: Objective, *, way: str, room: int) -> None:
        self.objective, self.way = objective, way_named(way)
        self._room = room
        self._double: Objective | None = None
        self._keeper: Keeper | None = None

    @property
    def double(self) -> Objective:
        """The objective in float64, its weights known: made at the first call.

        Costs a forward pass in float64.

        Raises:
            NoReference: where the model cannot be computed in float64.
            PreflightError: where torch cannot differentiate the loss.
        """
        if self._double is None:
            try:
                twin = self.objective.sample(None, dtype=torch.float64)
                twin.weigh()
            except PreflightError:
                raise
            except (RuntimeError, TypeError, ValueError, MemoryError, CurvtoolError) as error:
                # A model may hold tensors that do not follow `.to(float64)`.
                raise NoReference(first_line(error, most=120)) from error
            if self.objective.dtype == torch.float64:
                twin.halve_batches()  # where it cannot, the order of sums is the solve's own
            self._double = twin
        return self._double

    def keeper(self, index: int) -> Keeper | None:
        """Something that has the batch's graph; None for ways that keep none."""
        if self.way.keeper is None:
            return None
        self._keeper = self._keeper or self.way.keeper(self.double)
        kept = self._keeper
        if index in kept.indices or kept.keep(index, room=self._room - kept.bytes):
            return kept
        alone = self.way.keeper(self.double)
        alone.keep(index, room=float("inf"))
        return alone

    def halve(self, shortage: Exception) -> None:
        """Go on with half of the examples at a time.

        Args:
            shortage: of memory, which was met.

        Raises:
            NoReference: where one example is too many.
        """
        self._keeper, self._room = None, 0
        if not self.double.halve_batches():
            raise NoReference(f"memory ran out: {first_line(shortage, most=120)}")


@final
class ReferenceHessian:
    """H of an objective, or a diagonal block of it, multiplied in float64.

    A product with several rows makes each batch's graph once: one gradient, and two more for each
    row.

    Attributes:
        recorder: saves the sum over batches inside a product; None where nobody does.
        block: rows that `matmat` sends through one pass.
    """

    block = ROWS

    def __init__(self, twin: Twin, *, places: Sequence[int] | None = None) -> None:
        sizes = twin.objective.layout.sizes
        self.twin = twin
        self._places = tuple(range(len(sizes)) if places is None else sorted(set(places)))
        self._sizes = [sizes[i] for i in self._places]
        self.recorder: Recorder | None = None

    @property
    def size(self) -> int:
        """P, or n of the block."""
        return sum(self._sizes)

    @property
    def dtype(self) -> torch.dtype:
        """Of the vectors: float64."""
        return torch.float64

    @property
    def device(self) -> torch.device:
        """Of the vectors."""
        return self.twin.objective.device

    def matvec(self, v_P: Tensor, /) -> Tensor:
        """H v in float64, shape (P,)."""
        return self.matmat(v_P[None])[0]

    def matmat(self, V_kP: Tensor, /) -> Tensor:
        """Products with rows, shape (k, P).

        Args:
            V_kP: float64.

        Returns:
            The products. Costs a gradient where the graphs are not kept, and two more for each row,
            in float64.

        Raises:
            NoReference: where memory does not hold one example's graph in float64.
        """  # noqa: DOC501  # what is no want of memory comes through
        V_kP = V_kP.detach().contiguous()
        while True:
            try:
                return self._products(self.twin.double, V_kP)
            except (RuntimeError, MemoryError) as error:
                if not is_shortage(error):
                    raise
                shortage = error.with_traceback(None)  # whose frames hold tensors
            self.twin.halve(shortage)

    def _products(self, double: Objective, V_kP: Tensor) -> Tensor:
        HV_kP = V_kP * double.weight_decay

        def add(index: int) -> None:
            with double.missing_derivatives_named(index):
                keeper = self.twin.keeper(index)
                for row_P, total_P in zip(V_kP, HV_kP, strict=True):
                    total_P += self._term(double, index, keeper, row_P)

        name = self.twin.way.name
        rest_added(
            {"sum": HV_kP},
            double.active,
            add,
            before=lambda: None,
            recorder=self.recorder if len(double.active) > 1 else None,
            key=lambda: f"float64 {name} {len(double.active)} {fingerprint(V_kP)}",
        )
        return HV_kP

    def _term(self, double: Objective, index: int, keeper: Keeper | None, row_P: Tensor) -> Tensor:
        """The part of one batch."""
        shapes = double.layout.shapes
        pieces = torch.split(row_P, self._sizes)
        v = {i: p.view(shapes[i]) for i, p in zip(self._places, pieces, strict=True)}
        if keeper is not None and len(self._places) < len(shapes):
            found = keeper.restricted(index, v)
            return torch.cat([found[i].reshape(-1) for i in self._places])
        everything = embedded(v, double)
        if keeper is not None:
            made: Pieces = keeper.term(index, everything)
        else:
            assert self.twin.way.rebuild is not None
            made = self.twin.way.rebuild(double, index, everything)
        return torch.cat([made[i].reshape(-1) for i in self._places])
