"""The Hessian of an objective as an operator: its batches' products, made in a named way, added up.

Letters: P parameters, k vectors of a block.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, TypeVar, final

import torch
from torch import Tensor

from curvtool.operators.memory import is_shortage
from curvtool.operators.recording import Recorder, fingerprint
from curvtool.operators.summing import kept_sum, rest_added
from curvtool.operators.ways.base import Keeper, Pieces, embedded
from curvtool.operators.ways.registry import way_named
from curvtool.operators.workers import Workers
from curvtool.problem.objective import Objective

if TYPE_CHECKING:
    from curvtool.operators.reference import Twin

_Result = TypeVar("_Result")


@final
class HessianOperator:
    """H of the objective; `matvec` is exact to rounding unless the way takes differences.

    A way that keeps something serves as many batches as `graph_memory` bytes hold; `rest`, a way
    that keeps nothing, serves the others in the same product. When memory runs out all the same,
    half of what is kept is given up, then the batches are halved, and the product is made again: a
    solver above does not notice.

    Attributes:
        objective: whose Hessian it is.
        way: the way's name.
        kept: indices of the batches that something is kept of.
        bytes_kept: what that takes.
        block: vectors that `matmat` sends through one pass.
        workers: threads that share a product's kept batches; None where one after the other is
            multiplied.
        recorder: saves the sum over batches inside a product; None where nobody does.
        adjustments: sentences: what was given up when memory ran out.
        twin: the same in float64; None until somebody asks for it.

    Raises:
        ValueError: for a way that there is not.
    """

    def __init__(
        self,
        objective: Objective,
        *,
        way: str = "retained-graph",
        rest: str | None = None,
        graph_memory: int | None = None,
        most_kept: int | None = None,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._way = way_named(way)
        self._rest = way_named(rest or self._way.rest) if self._way.keeps else self._way
        self.objective = objective
        self.way = way
        self.block = 1
        self.workers: Workers | None = None
        self.recorder: Recorder | None = None
        self.adjustments: list[str] = []
        self.twin: Twin | None = None
        self._tell = tell
        self._keeper: Keeper | None = None
        self._limit = float("inf") if graph_memory is None else graph_memory
        self._most = most_kept  # batches to keep at most; less once memory has run out
        self._enduring(self._keep)

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

    @property
    def keeps(self) -> bool:
        """Whether its way keeps anything, given the memory."""
        return self._way.keeps

    @property
    def kept(self) -> tuple[int, ...]:
        """Indices of the batches that something is kept of."""
        return () if self._keeper is None else tuple(self._keeper.indices)

    @property
    def bytes_kept(self) -> int:
        """Memory between products."""
        return 0 if self._keeper is None else self._keeper.bytes

    @property
    def rest(self) -> str:
        """Name of the way for batches that nothing is kept of, whether there are any or not."""
        return self._rest.name

    @property
    def way_of_rest(self) -> str:
        """Name of the way that serves batches of which nothing is kept; empty where all are."""
        return self._rest.name if set(self.objective.active) - set(self.kept) else ""

    def matvec(self, v_P: Tensor, /) -> Tensor:
        """H v, shape (P,)."""
        # Contiguous, since matrix products of strided vectors round in another order.
        v_P = v_P.detach().contiguous()
        return self._enduring(lambda: self._product(v_P))

    @property
    def num_terms(self) -> int:
        """Batches that H is a sum over, as the objective was given them."""
        return len(self.objective.terms)

    @property
    def term_shares(self) -> list[float]:
        """Of each term's batch in the dataset mean, shape (B,)."""
        return [sum(map(self.objective.share, parts)) for parts in self.objective.terms]

    @property
    def shift(self) -> float:
        """W of the W I that H is beside the sum of its terms."""
        return self.objective.weight_decay

    def term(self, i: int, v_P: Tensor, /) -> Tensor:
        """H_i v of the i-th term, shape (P,): one product of the batch.

        A term is a batch's share of the dataset mean; where batches are halved for want of memory
        it stays the sum of its parts.

        Args:
            i: of `num_terms`.
            v_P: shape (P,).

        Returns:
            The product, without the shift.
        """
        v_P = v_P.detach().contiguous()
        return self._enduring(lambda: self._term(i, v_P))

    def restricted_product(self, v: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """H v on the places of v, which is zero elsewhere.

        Args:
            v: pieces by the places of their tensors in the layout.

        Returns:
            Pieces for the same places. Costs at most a product.
        """
        return self._enduring(lambda: self._restricted_product(v))

    @property
    def concurrent(self) -> bool:
        """Whether workers may share its batches: a CPU's, all kept in a way that allows it."""
        every = bool(self.kept) and not self.way_of_rest
        return every and self._way.concurrent and self.device.type == "cpu"

    @property
    def multiplies_blocks(self) -> bool:
        """Whether several vectors can go through one pass."""
        return self._way.blocks and bool(self.kept) and not self.way_of_rest

    def matmat(self, V_kP: Tensor, /) -> Tensor:
        """H V' as rows, shape (k, P); `block` vectors at a time where the way can."""
        V_kP = V_kP.detach().contiguous()
        done: list[Tensor] = []
        begin = 0
        while begin < len(V_kP):
            # The block is read anew, for it shrinks when memory runs out.
            done.append(self._enduring(partial(self._block, V_kP, begin)))
            begin += len(done[-1])
        return torch.cat(done)

    def _product(self, v_P: Tensor) -> Tensor:
        layout = self.objective.layout
        v = layout.split(v_P)
        Hv_P = v_P * self.objective.weight_decay

        def add_kept() -> None:
            if self.kept and self._keeper is not None:
                with self.objective.missing_derivatives_named(self.kept[0]):
                    Hv_P.add_(layout.join(self._kept_product(self._keeper, v, key)))

        def add(index: int) -> None:
            Hv_P.add_(layout.join(self._rebuilt(index, v)))

        def key() -> str:
            return f"{self._made_as} {fingerprint(v_P)}"

        rest_added(
            {"sum": Hv_P}, self._rest_indices, add, before=add_kept, recorder=self._summing, key=key
        )
        return Hv_P

    @property
    def _summing(self) -> Recorder | None:
        """The recorder, where a product has several steps."""
        return self.recorder if len(self.objective.active) > 1 else None

    @property
    def _rest_indices(self) -> list[int]:
        kept = set(self.kept)
        return [index for index in self.objective.active if index not in kept]

    @property
    def _made_as(self) -> str:
        """What the order of sums and their rounding depend on, beside the vector."""
        workers = self.workers.count if self.workers else 1
        batches = len(self.objective.active)
        return f"{self.way} {self.rest} {len(self.kept)} of {batches} by {workers} on {self.device}"

    def _kept_product(self, keeper: Keeper, v: Pieces, key: Callable[[], str]) -> Pieces:
        return kept_sum(keeper, v, workers=self.workers, recorder=self._summing, key=key)

    def _term(self, i: int, v_P: Tensor) -> Tensor:
        objective = self.objective
        v = objective.layout.split(v_P)
        kept = set(self.kept)
        Hv_P = torch.zeros_like(v_P)
        for index in objective.terms[i]:
            if index in kept and self._keeper is not None:
                with objective.missing_derivatives_named(index):
                    Hv_P += objective.layout.join(self._keeper.term(index, v))
            else:
                Hv_P += objective.layout.join(self._rebuilt(index, v))
        return Hv_P

    def _restricted_product(self, v: Mapping[int, Tensor]) -> dict[int, Tensor]:
        objective = self.objective
        kept = set(self.kept)
        total = {i: piece * objective.weight_decay for i, piece in v.items()}

        def add(index: int) -> None:
            found: Mapping[int, Tensor]
            if index in kept and self._keeper is not None:
                with objective.missing_derivatives_named(index):
                    found = self._keeper.restricted(index, v)
            else:
                found = dict(enumerate(self._rebuilt(index, embedded(v, objective))))
            for i in v:
                total[i] += found[i]

        rest_added(
            {str(i): piece for i, piece in total.items()},
            objective.active,
            add,
            before=lambda: None,
            recorder=self._summing,
            key=lambda: f"{self._made_as} {[(i, fingerprint(piece)) for i, piece in v.items()]}",
        )
        return total

    def _rebuilt(self, index: int, v: Pieces) -> Pieces:
        assert self._rest.rebuild is not None
        with self.objective.missing_derivatives_named(index):
            return self._rest.rebuild(self.objective, index, v)

    def _block(self, V_kP: Tensor, begin: int) -> Tensor:
        """Products with the next rows: at most a block of them."""
        if self.block == 1 or not self.multiplies_blocks or self._keeper is None:
            return self._product(V_kP[begin])[None]
        V_kP = V_kP[begin : begin + self.block]
        layout = self.objective.layout
        rows = [layout.split(v_P) for v_P in V_kP]
        found = self._keeper.products([torch.stack(column) for column in zip(*rows, strict=True)])
        HV_kP = torch.cat([piece.reshape(len(V_kP), -1) for piece in found], dim=1)
        return HV_kP.add_(V_kP, alpha=self.objective.weight_decay)

    def _keep(self) -> None:
        if self._way.keeper is None:
            return
        self._keeper = keeper = self._way.keeper(self.objective)
        for index in self.objective.active[: self._most]:
            with self.objective.missing_derivatives_named(index):
                if not keeper.keep(index, room=self._limit - keeper.bytes):
                    break

    def _enduring(self, run: Callable[[], _Result]) -> _Result:
        """Run, and where memory runs out give something up and run again."""
        while True:
            try:
                return run()
            except (RuntimeError, MemoryError) as error:
                if not is_shortage(error):
                    raise
                shortage = error.with_traceback(None)  # whose frames hold tensors
            self._give_up(shortage)

    def _give_up(self, shortage: Exception) -> None:
        kept = len(self.kept)
        if self.block > 1:
            self.block //= 2
            self._adjust(f"Memory ran out: {self.block} vectors go through one pass.")
            return
        if self.workers is not None:
            self.workers = None
            self._adjust("Memory ran out: batches are multiplied one after the other.")
            return
        if kept:
            self._most, self._keeper = kept // 2, None
            self._adjust(
                f"Memory ran out: {self.way} keeps {kept // 2} of {len(self.objective.active)} "
                f"batches, no longer {kept}."
            )
        elif self.objective.halve_batches():
            self._keeper = None
            sizes = max(map(self.objective.examples, self.objective.active))
            self._adjust(f"Memory ran out: batches have at most {sizes} examples now.")
        else:
            raise shortage
        self._enduring(self._keep)

    def _adjust(self, sentence: str) -> None:
        self.adjustments.append(sentence)
        self._tell(sentence)
