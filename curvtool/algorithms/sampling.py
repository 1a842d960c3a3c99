"""Passes over the dataset with random probes, and the samples that every pass leaves.

One product over the whole dataset, two ways: a probe for each of the B terms gives B independent
samples, one probe shared by all gives one sample of their sum, and |Hz|^2 with it.

Letters: P parameters, R passes, B terms, L layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import final

import numpy as np
import torch
from torch import Tensor

from curvtool.algorithms.deflation import NOT_FINITE, Deflation
from curvtool.algorithms.intervals import Estimated, summarized, widening, with_tails
from curvtool.algorithms.layers import Layer
from curvtool.algorithms.space import space_of
from curvtool.errors import CurvtoolError
from curvtool.operators.base import SumOperator
from curvtool.operators.recording import (
    State,
    fingerprint,
    loop,
    recorder_of,
    remembered,
    unrecorded,
)
from curvtool.random_vectors.purposes import Purpose
from curvtool.random_vectors.streams import Kind
from curvtool.results import FloatArray


@final
class Passes:
    """Samples of one kind of probe; T = H - shift I.

    A pass is added whole or not at all: what an exception interrupts leaves no trace.

    Attributes:
        shared: whether one probe serves all terms.
        count: R, complete passes.
    """

    def __init__(
        self,
        operator: SumOperator,
        deflation: Deflation,
        *,
        shared: bool,
        probes: Kind,
        seed: int,
        layers: Sequence[Layer] = (),
        diagonal: bool = False,
        first: int = 0,
    ) -> None:
        self.operator = operator
        self.space = space_of(operator)
        self.deflation = deflation
        self.shared = shared
        self.layers = layers
        self._probes: Kind = probes
        self._seed = seed
        self._first = first
        self._directions = fingerprint(deflation.Q_kP) if len(deflation.Q_kP) else ""
        self._traces: list[FloatArray] = []  # each (B,), or (1,) of shared probes
        self._layer_traces: list[FloatArray] = []  # each (B, L)
        self._norms: list[FloatArray] = []  # |T_b v_b|^2, each (B,)
        self._squares: list[FloatArray] = []  # of shared probes |Hv|^2 and its layers, (1 + L,)
        self._term_norms: list[FloatArray] = []  # |T_b v|^2 under a shared probe, each (B,)
        self._by_term_rows: list[int] = []
        self.last_P: Tensor | None = None  # T v of the last shared pass, where diagonals are kept
        self.mean_P: Tensor | None = None
        self._apart_P: Tensor | None = None
        if diagonal:
            self.mean_P = self.space.zeros()
            self._apart_P = torch.zeros_like(self.mean_P)

    @property
    def count(self) -> int:
        """R."""
        return len(self._traces)

    @property
    def samples(self) -> FloatArray:
        """v'T_b v, shape (R, B); (R, 1) of shared probes."""
        return np.array(self._traces).reshape(self.count, -1)

    @property
    def trace(self) -> Estimated:
        """Of p T p; exact parts come from the deflation."""
        factor = widening(self.samples, self.norms)
        return replace(summarized(self.samples), widening=factor)

    @property
    def layer_traces(self) -> Estimated:
        """Of E_l T p, shape (L,)."""
        samples = np.stack(self._layer_traces)
        return with_tails(summarized(samples), samples)

    @property
    def norms(self) -> FloatArray:
        """|T_b v|^2, shape (R, B): means estimate |T_b p|_F^2; (R, 1) of shared probes."""
        return np.array(self._norms).reshape(self.count, -1)

    @property
    def gain(self) -> float:
        """|T|_F^2 over sum |T_b|_F^2 from passes made by term; 1 where all is zero."""
        terms = float(np.sum(self._term_norms))
        whole = float(self.norms[self._by_term_rows].sum())
        return whole / terms if terms > 0 else 1.0

    @property
    def term_norms(self) -> FloatArray | None:
        """|T_b v|^2 of every term, shape (B,), mean over the passes that know it."""
        if not self.shared:
            return np.asarray(self.norms.mean(axis=0))
        return np.mean(self._term_norms, axis=0) if self._term_norms else None

    @property
    def frobenius(self) -> Estimated:
        """Of |H p|_F^2 and, behind it, of the layers' row blocks: shape (1 + L,)."""
        assert self.shared
        samples = np.stack(self._squares)[:, None, :]
        return with_tails(summarized(samples), samples)

    @property
    def diagonal_variance_P(self) -> Tensor:
        """Squared standard errors of `mean_P`; at least two passes."""
        assert self._apart_P is not None
        return self._apart_P / (self.count * (self.count - 1))

    def add(self, *, by_term: bool = False) -> None:
        """Make one pass: one product over the whole dataset, one wait for the device.

        Memory is 4 vectors of P numbers, and 2 more where the diagonal is kept.

        Args:
            by_term: of shared probes, multiply term by term, so as to see |T_b v|^2.

        Raises:
            CurvtoolError: when a product is not finite.
        """
        sweep = self._first + self.count
        key = f"pass {sweep} {'shared' if self.shared else 'single'} {by_term} {self._directions}"
        diagonal_P = None if self.mean_P is None else torch.zeros_like(self.mean_P)

        def made() -> tuple[FloatArray]:
            return (self._made(sweep, by_term, diagonal_P, key),)

        if diagonal_P is None:
            (numbers,) = remembered(self.operator, key, made, whole=True)
        else:  # which whoever adds passes saves as it goes on
            with unrecorded(self.operator):
                (numbers,) = made()
        if not np.isfinite(numbers).all():
            raise CurvtoolError(NOT_FINITE)
        rows = 1 if self.shared else self.operator.num_terms
        table = numbers[: rows * (2 + len(self.layers))].reshape(rows, -1)
        if diagonal_P is not None:
            self._welford(diagonal_P)
        self._layer_traces.append(table[:, 2:])
        self._norms.append(table[:, 1])
        end = table.size + 1 + len(self.layers)
        self._squares.append(numbers[table.size : end])
        if by_term:
            self._term_norms.append(numbers[end:])
            self._by_term_rows.append(self.count)
        self._traces.append(table[:, 0])

    def _made(self, sweep: int, by_term: bool, diagonal_P: Tensor | None, key: str) -> FloatArray:
        """All numbers of a pass: a row for each probe, then those of shared ones."""
        op = self.operator
        if self.shared:
            z_P, v_P = self._probe(sweep, 0)
            Hv_P, lengths = self._by_term(v_P, key) if by_term else (op.matvec(v_P), [])
            Tv_P = torch.sub(Hv_P, v_P, alpha=op.shift) if op.shift else Hv_P
            parts = [
                self._row(z_P, v_P, Tv_P, diagonal_P),
                self.space.exact_products(Hv_P[None], Hv_P),
                self.space.layer_sums(Hv_P * Hv_P, self.layers),
                *lengths,
            ]
            self.last_P = None if diagonal_P is None else Tv_P
            return np.asarray(torch.cat(parts).cpu().numpy())
        rows = torch.zeros(
            (op.num_terms, 2 + len(self.layers)), dtype=torch.float64, device=op.device
        )
        state = {"rows": rows} | ({} if diagonal_P is None else {"diagonal": diagonal_P})
        with loop(recorder_of(op), lambda: key) as place:
            place.fill(state)
            for b in range(place.done, op.num_terms):
                z_P, v_P = self._probe(sweep, b)
                rows[b] = self._row(z_P, v_P, op.term(b, v_P), diagonal_P)
                place.step(b + 1, lambda: state)
        return np.asarray(rows.flatten().cpu().numpy())

    def state(self) -> State:
        """All passes so far, of such as keep the diagonal; see `restore`."""
        assert self.mean_P is not None
        assert self._apart_P is not None
        lists = (self._traces, self._layer_traces, self._norms, self._squares)
        named = zip(("traces", "layer_traces", "norms", "squares"), lists, strict=True)
        numbers = {n: torch.from_numpy(np.stack(each)) for n, each in named if each}
        return numbers | {"mean": self.mean_P, "apart": self._apart_P}

    def restore(self, state: State) -> None:
        """Take over the passes of an interrupted run: what `state` gave then."""
        assert self.mean_P is not None
        assert self._apart_P is not None
        self.mean_P.copy_(state["mean"])
        self._apart_P.copy_(state["apart"])
        if "traces" in state:
            self._traces = list(state["traces"].numpy())
            self._layer_traces = list(state["layer_traces"].numpy())
            self._norms = list(state["norms"].numpy())
            self._squares = list(state["squares"].numpy())

    def _probe(self, sweep: int, term: int) -> tuple[Tensor, Tensor]:
        """Z, and p z."""
        single, shared = Purpose.TRACE_PER_TERM, Purpose.TRACE_SHARED
        if self.mean_P is not None:
            single, shared = Purpose.DIAGONAL_PER_TERM, Purpose.DIAGONAL_SHARED
        purpose = shared if self.shared else single
        z_P = self.space.probe(self._probes, purpose, sweep, term, seed=self._seed)
        return z_P, self.deflation.project(z_P)

    def _by_term(self, v_P: Tensor, key: str) -> tuple[Tensor, list[Tensor]]:
        """H v, and |T_b v|^2 of every term."""
        op = self.operator
        Hv_P = v_P * op.shift
        lengths = torch.zeros(op.num_terms, dtype=torch.float64, device=op.device)
        state = {"sum": Hv_P, "lengths": lengths}
        with loop(recorder_of(op), lambda: key) as place:
            place.fill(state)
            for b in range(place.done, op.num_terms):
                part_P = op.term(b, v_P)
                lengths[b] = self.space.exact_products(part_P[None], part_P)[0]
                Hv_P += part_P
                place.step(b + 1, lambda: state)
        return Hv_P, [lengths]

    def _row(self, z_P: Tensor, v_P: Tensor, Tv_P: Tensor, diagonal_P: Tensor | None) -> Tensor:
        """v'Tv, |Tv|^2 and the layers' parts of the former, float64 of shape (2 + L,)."""
        numbers = [
            self.space.exact_products(v_P[None], Tv_P),
            self.space.exact_products(Tv_P[None], Tv_P),
        ]
        if self.layers or diagonal_P is not None:
            # For a diagonal z * Tv: it has the mean of v * Tv, and by signs the variance |Tp|_F^2
            # less squares, which no deflation raises above |T|_F^2. Entries of v are no signs.
            e_P = (v_P if diagonal_P is None else z_P) * Tv_P
            numbers.append(self.space.layer_sums(e_P, self.layers))
            if diagonal_P is not None:
                diagonal_P += e_P
        return torch.cat(numbers)

    def _welford(self, sample_P: Tensor) -> None:
        """Running mean and sum of squared deviations, which no large mean cancels."""
        assert self.mean_P is not None
        assert self._apart_P is not None
        apart_P = sample_P - self.mean_P
        self.mean_P.add_(apart_P, alpha=1 / (self.count + 1))
        self._apart_P.addcmul_(apart_P, sample_P.sub_(self.mean_P))
