"""Directions taken out of a stochastic estimate and added back exactly.

With orthonormal rows Q and p = I - Q'Q, probes v = p z satisfy E[vv'] = p, and

    tr(E H) = tr(E H Q'Q) + E[v' E H v]

for the selection E of any set of entries, since H = H Q'Q + H p and p^2 = p: the trace, the trace
of a layer, and with E = e_i e_i' the diagonal. Likewise |E H|_F^2 = |E H Q'|_F^2 + E[|E H v|^2].
Nothing here asks that the rows be eigenvectors; the nearer they are, the more variance they take.

Letters: P parameters, k directions, B terms, L layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import final

import numpy as np
import torch
from torch import Tensor

from curvtool.algorithms.layers import Layer, sizes
from curvtool.algorithms.space import Space, space_of
from curvtool.errors import CurvtoolError
from curvtool.operators.base import SumOperator
from curvtool.operators.recording import Numbers, fingerprint, loop, recorder_of, remembered
from curvtool.results import FloatArray

NOT_FINITE = (
    "The Hessian-vector product is not finite (NaN or infinity) although loss and gradient are. "
    "Second derivatives overflow here: try --dtype float64."
)


@final
@dataclass(frozen=True, eq=False)
class Deflation:
    """Orthonormal directions and all that their products say exactly; T = H - shift I.

    Attributes:
        space: that the rows are of.
        Q_kP: the rows, possibly none.
        trace: tr(Q T Q').
        layer_trace: shape (L,), tr(E_l T Q'Q).
        frobenius: |H Q'|_F^2.
        layer_frobenius: shape (L,), |E_l H Q'|_F^2.
        taken: |T|_F^2 - |p T p|_F^2.
        taken_by_term: shape (B,), the same of every term.
        diagonal_P: of T Q'Q, where asked for.
        hvps: products that were spent: k.
    """

    space: Space
    Q_kP: Tensor
    trace: float
    layer_trace: FloatArray
    frobenius: float
    layer_frobenius: FloatArray
    taken: float
    taken_by_term: FloatArray
    diagonal_P: Tensor | None
    hvps: int

    def project(self, z_P: Tensor) -> Tensor:
        """Z without its components along the rows: four passes over them."""
        return self.space.orthogonalized(self.Q_kP, z_P)[0] if len(self.Q_kP) else z_P


def nothing_deflated(operator: SumOperator, layers: Sequence[Layer]) -> Deflation:
    """No directions, no products."""
    space = space_of(operator)
    return Deflation(
        space=space,
        Q_kP=space.empty(0),
        trace=0.0,
        layer_trace=np.zeros(len(layers)),
        frobenius=0.0,
        layer_frobenius=np.zeros(len(layers)),
        taken=0.0,
        taken_by_term=np.zeros(operator.num_terms),
        diagonal_P=None,
        hvps=0,
    )


def orthonormal_rows(space: Space, V_kP: Tensor) -> Tensor:
    """The rows made orthonormal in their order; rows that depend on earlier ones are left out.

    Args:
        space: that they are of.
        V_kP: shape (k, P), none of them zero.

    Returns:
        At most k rows. Memory is as many vectors.
    """
    Q_kP = torch.empty_like(V_kP)
    n = 0
    for v_P in V_kP:
        w_P, _ = space.orthogonalized(Q_kP[:n], v_P / space.norm(v_P).to(v_P.dtype))
        length = float(space.norm(w_P))
        if length < 1e-3:  # what is left of a unit vector is mostly rounding
            continue
        w_P, _ = space.orthogonalized(Q_kP[:n], w_P / length)
        Q_kP[n] = w_P / space.norm(w_P).to(w_P.dtype)
        n += 1
    return Q_kP[:n]


@final
class Deflating:
    """Directions that are taken out one by one, each for a fresh product made term by term.

    Args:
        operator: of size P with B terms.
        layers: L of them.
        room: most directions; memory is `room` + 3 vectors of P numbers.
        diagonal: whether the diagonal of T Q'Q is wanted.
        name: of these directions among others of the run.

    Attributes:
        Q_kP: the rows, of which the first k are taken out.
        diagonal_P: of T Q'Q so far, where it is wanted.
    """

    def __init__(
        self,
        operator: SumOperator,
        layers: Sequence[Layer],
        *,
        room: int,
        diagonal: bool,
        name: str,
    ) -> None:
        self.operator = operator
        self.space = space_of(operator)
        self.Q_kP = self.space.empty(room)
        self.k = 0
        self._layers = layers
        self._name = name
        self._within = np.zeros((operator.num_terms, room, room))
        self._lengths = np.zeros((operator.num_terms, room))
        self._sums = np.zeros(3)  # of q'Tq, |Tq|^2 and |Hq|^2
        self._layer_trace, self._layer_frobenius = np.zeros(len(layers)), np.zeros(len(layers))
        self.diagonal_P = self.space.zeros() if diagonal and room else None

    @property
    def squares(self) -> tuple[float, float]:
        """What is taken of |T|_F^2 at least, and of sum |T_b|_F^2: |TQ'|^2, sum |T_b Q'|^2."""
        return float(self._sums[1]), float(self._lengths.sum())

    def add(self, q_P: Tensor) -> Tensor | None:
        """Take one direction out.

        Args:
            q_P: a unit vector orthogonal to all before.

        Returns:
            T q where the diagonal is wanted.

        Raises:
            CurvtoolError: when a product is not finite.
        """
        i = self.k
        self.Q_kP[i] = q_P
        key = f"direction {i} of {self._name}"
        made = partial(
            _direction,
            self.operator,
            self.Q_kP[: i + 1],
            self._layers,
            diagonal=self.diagonal_P is not None,
            key=key,
        )
        parts = remembered(self.operator, key, made, whole=True)
        self._within[:, i, : i + 1] = self._within[:, : i + 1, i] = parts[0]
        self._lengths[:, i] = parts[1]
        self._sums += parts[2]
        self._layer_trace += parts[3]
        self._layer_frobenius += parts[4]
        self.k = i + 1
        if self.diagonal_P is None:
            return None
        Tq_P = torch.from_numpy(parts[5]).to(q_P.device)
        self.diagonal_P.addcmul_(self.Q_kP[i], Tq_P)
        return Tq_P

    def found(self) -> Deflation:
        """What the directions so far say exactly."""
        within = self._within[:, : self.k, : self.k]
        # |T|^2 - |pTp|^2 = 2 |TQ'|^2 - |QTQ'|^2.
        taken_by_term = 2 * self._lengths.sum(axis=1) - (within**2).sum(axis=(1, 2))
        trace, whole_length, frobenius = map(float, self._sums)
        return Deflation(
            space=self.space,
            Q_kP=self.Q_kP[: self.k],
            trace=trace,
            layer_trace=self._layer_trace,
            frobenius=frobenius,
            layer_frobenius=self._layer_frobenius,
            taken=2 * whole_length - float((within.sum(axis=0) ** 2).sum()),
            taken_by_term=taken_by_term,
            diagonal_P=self.diagonal_P,
            hvps=self.k,
        )


def deflated(
    operator: SumOperator,
    V_kP: Tensor,
    layers: Sequence[Layer] = (),
    *,
    diagonal: bool = False,
) -> Deflation:
    """Take directions out: k fresh products, made term by term.

    Args:
        operator: of size P with B terms.
        V_kP: the directions; they are made orthonormal first.
        layers: L of them.
        diagonal: whether the diagonal of T Q'Q is wanted.

    Returns:
        What they say exactly. Memory is 2 k + 3 vectors of P numbers.

    Raises:
        CurvtoolError: when a product is not finite.
    """
    space = space_of(operator)
    Q_kP = orthonormal_rows(space, V_kP.to(dtype=operator.dtype, device=operator.device))
    taken = Deflating(operator, layers, room=len(Q_kP), diagonal=diagonal, name=fingerprint(Q_kP))
    for q_P in Q_kP:
        taken.add(q_P)
    return taken.found()


def _direction(
    operator: SumOperator,
    Q_kP: Tensor,
    layers: Sequence[Layer],
    *,
    diagonal: bool,
    key: str,
) -> list[Numbers]:
    """One product, with the last row, made term by term.

    Returns:
        q_j' T_b q_i, shape (B, k); |T_b q_i|^2, shape (B,); q'Tq, |Tq|^2 and |Hq|^2; the layers'
        parts of the first and of the last; and Tq itself for the diagonal.

    Raises:
        CurvtoolError: when a product is not finite.
    """
    q_P, B, space = Q_kP[-1], operator.num_terms, space_of(operator)
    Tq_P = torch.zeros_like(q_P)
    within, lengths = np.zeros((B, len(Q_kP))), np.zeros(B)
    state = {
        "sum": Tq_P,
        "within": torch.from_numpy(within),
        "lengths": torch.from_numpy(lengths),
    }
    with loop(recorder_of(operator), lambda: key) as place:
        place.fill(state)
        for b in range(place.done, B):
            part_P = operator.term(b, q_P)
            within[b] = space.exact_products(Q_kP, part_P).cpu().numpy()
            lengths[b] = float(space.exact_products(part_P[None], part_P)[0])
            Tq_P += part_P
            place.step(b + 1, lambda: state)
    if not np.isfinite(lengths).all():
        raise CurvtoolError(NOT_FINITE)
    kept = [Tq_P.cpu().numpy().copy()] if diagonal else []
    trace = float(space.exact_products(q_P[None], Tq_P)[0])
    length = float(space.exact_products(Tq_P[None], Tq_P)[0])
    layer_trace = space.layer_sums(q_P * Tq_P, layers).cpu().numpy()
    Hq_P = Tq_P.add_(q_P, alpha=operator.shift)
    frobenius = float(space.exact_products(Hq_P[None], Hq_P)[0])
    rows = space.layer_sums(Hq_P * Hq_P, layers).cpu().numpy()
    return [within, lengths, np.array([trace, length, frobenius]), layer_trace, rows, *kept]


def exact_parts(
    operator: SumOperator, deflation: Deflation, layers: Sequence[Layer]
) -> tuple[float, FloatArray]:
    """What is known without sampling: of the trace, and of each layer's, shift included."""
    whole = operator.shift * operator.size + deflation.trace
    return whole, operator.shift * sizes(layers) + deflation.layer_trace
