"""Products in float64, which say how far those of a solve are off: few, and none is kept.

A float32 product errs by its own rounding and wherever rounding decides on which side of a kink an
example stands; neither shows without float64, and neither shows on a few examples. For a solve in
float64 the batches are cut in two, so that sums are made in another order.

Letters: P parameters, n of a block, k rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

import torch
from torch import Tensor

from curvtool.errors import CurvtoolError, PreflightError
from curvtool.operators.base import NoReference
from curvtool.operators.memory import is_shortage
from curvtool.operators.recording import Recorder, fingerprint
from curvtool.operators.summing import rest_added
from curvtool.operators.ways.base import Pieces, embedded
from curvtool.operators.ways.registry import way_named
from curvtool.problem.objective import Objective
from curvtool.problem.wording import first_line

# Rows that go through one forward pass: their sums lie beside each other in float64.
ROWS = 32


@final
class ReferenceHessian:
    """H of an objective, or a diagonal block of it, multiplied in float64.

    A product with several rows makes each batch's graph once: one gradient, and two more for each
    row. The model's copy is made at the first product.

    Attributes:
        recorder: saves the sum over batches inside a product; None where nobody does.
        block: rows that `matmat` sends through one pass.
    """

    block = ROWS

    def __init__(
        self, objective: Objective, *, way: str, places: Sequence[int] | None = None
    ) -> None:
        self._objective = objective
        self._way = way_named(way)
        every = range(len(objective.layout.sizes)) if places is None else sorted(set(places))
        self._places = tuple(every)
        self._sizes = [objective.layout.sizes[i] for i in self._places]
        self._double: Objective | None = None
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
        return self._objective.device

    def matvec(self, v_P: Tensor, /) -> Tensor:
        """H v in float64, shape (P,)."""
        return self.matmat(v_P[None])[0]

    def matmat(self, V_kP: Tensor, /) -> Tensor:
        """Products with rows, shape (k, P).

        Args:
            V_kP: float64.

        Returns:
            The products. Costs a gradient, and two more for each row, in float64.

        Raises:
            NoReference: where memory does not hold one example's graph in float64.
        """  # noqa: DOC501  # what is no want of memory comes through
        V_kP = V_kP.detach().contiguous()
        while True:
            double = self.prepared()
            try:
                return self._products(double, V_kP)
            except (RuntimeError, MemoryError) as error:
                if not is_shortage(error):
                    raise
                shortage = error.with_traceback(None)  # whose frames hold tensors
            if not double.halve_batches():
                raise NoReference(f"memory ran out: {first_line(shortage, most=120)}")

    def prepared(self) -> Objective:
        """The objective in float64, its weights known: made at the first call.

        Returns:
            The twin. Costs a forward pass in float64.

        Raises:
            NoReference: where the model cannot be computed in float64.
            PreflightError: where torch cannot differentiate the loss.
        """
        if self._double is None:
            try:
                twin = self._objective.sample(None, dtype=torch.float64)
                twin.weigh()
            except PreflightError:
                raise
            except (RuntimeError, TypeError, ValueError, MemoryError, CurvtoolError) as error:
                # A model may hold tensors that do not follow `.to(float64)`.
                raise NoReference(first_line(error, most=120)) from error
            if self._objective.dtype == torch.float64:
                twin.halve_batches()  # where it cannot, the order of sums is the solve's own
            self._double = twin
        return self._double

    def _products(self, double: Objective, V_kP: Tensor) -> Tensor:
        HV_kP = V_kP * double.weight_decay

        def add(index: int) -> None:
            multiply = self._multiplier(double, index)
            for row_P, total_P in zip(V_kP, HV_kP, strict=True):
                total_P += multiply(row_P)

        rest_added(
            {"sum": HV_kP},
            double.active,
            add,
            before=lambda: None,
            recorder=self.recorder if len(double.active) > 1 else None,
            key=lambda: f"float64 {self._way.name} {len(double.active)} {fingerprint(V_kP)}",
        )
        return HV_kP

    def _multiplier(self, double: Objective, index: int) -> Callable[[Tensor], Tensor]:
        """The products of one batch, which share its graph."""
        shapes = double.layout.shapes
        way = self._way
        with double.missing_derivatives_named(index):
            keeper = None if way.keeper is None else way.keeper(double)
            if keeper is not None:
                keeper.keep(index, room=float("inf"))

        def multiply(row_P: Tensor) -> Tensor:
            pieces = torch.split(row_P, self._sizes)
            v = {i: p.view(shapes[i]) for i, p in zip(self._places, pieces, strict=True)}
            whole = len(self._places) == len(shapes)
            with double.missing_derivatives_named(index):
                if keeper is not None and not whole:
                    found = keeper.restricted(index, v)
                    return torch.cat([found[i].reshape(-1) for i in self._places])
                everything = embedded(v, double)
                if keeper is not None:
                    made: Pieces = keeper.term(index, everything)
                else:
                    assert way.rebuild is not None
                    made = way.rebuild(double, index, everything)
            return torch.cat([made[i].reshape(-1) for i in self._places])

        return multiply
