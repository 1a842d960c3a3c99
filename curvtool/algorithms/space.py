"""The vectors that an operator takes: whole ones, or this process's share of them.

Where a run is shared out over ranks, an algorithm holds a rank's part of every vector. All that it
learns of whole vectors comes through here: inner products and norms are summed over the ranks in
float64, so that everybody has the same numbers and goes the same way.

Letters: P size of the operator, p numbers of this process's share (P where there is one process),
m rows of a basis.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from curvtool.algorithms import linalg
from curvtool.algorithms.layers import Layer, layer_sums
from curvtool.distributed.group import Alone, Group
from curvtool.distributed.shares import Shares
from curvtool.operators.base import SymmetricOperator
from curvtool.random_vectors import streams
from curvtool.random_vectors.purposes import Purpose
from curvtool.random_vectors.streams import Kind
from curvtool.results import FloatArray


@final
class Space:
    """Vectors of P numbers.

    Args:
        size: P.
        dtype: of the vectors.
        device: where they lie.
        group: over whose ranks they are shared out.
    """

    def __init__(
        self, size: int, *, dtype: torch.dtype, device: torch.device, group: Group | None = None
    ) -> None:
        self.size, self.dtype, self.device = size, dtype, device
        self.group: Group = group or Alone()
        self.shares = Shares(size, self.group.size)

    @property
    def local(self) -> int:
        """Numbers of this process's share: p."""
        return self.shares.length(self.group.rank)

    @property
    def alone(self) -> bool:
        """Whether vectors are whole."""
        return self.group.size == 1

    def zeros(self) -> Tensor:
        """A zero vector, shape (p,)."""
        return torch.zeros(self.local, dtype=self.dtype, device=self.device)

    def empty(self, rows: int) -> Tensor:
        """Room for so many vectors, shape (rows, p)."""
        return torch.empty((rows, self.local), dtype=self.dtype, device=self.device)

    def combination(self, V_mp: Tensor, c_m: Tensor) -> Tensor:
        """C' V, shape (p,), as a vector of this space wherever the rows lie."""
        return linalg.combination(V_mp, c_m, self.dtype).to(self.device)

    def share(self, whole_P: Tensor) -> Tensor:
        """This process's share of a vector, or of rows, that everybody has: shape (..., p)."""
        return whole_P if self.alone else whole_P[..., self.shares.part(self.group.rank)].clone()

    def gathered(self, x_p: Tensor) -> Tensor:
        """The whole of a vector, or of rows: shape (..., P), on every rank."""
        if self.alone:
            return x_p
        with self._beside_products():
            rows = [self.group.all_gather(row, self.shares) for row in x_p.view(-1, self.local)]
        return rows[0] if x_p.dim() == 1 else torch.stack(rows)

    def sum(self, numbers: Tensor) -> Tensor:
        """Sums over the ranks, in place."""
        return numbers if self.alone else self.group.sum_(numbers)

    def agreed(self, found: tuple[FloatArray, FloatArray]) -> tuple[FloatArray, FloatArray]:
        """Rank 0's eigenpairs of a small matrix, for all: machines round them otherwise.

        Args:
            found: this rank's own values (n,) and vectors (n, n).

        Returns:
            Rank 0's.
        """
        if self.alone:
            return found
        packed = torch.from_numpy(np.vstack([found[0], found[1]]))
        with self._beside_products():
            self.group.broadcast_(packed, 0)
        return packed[0].numpy(), packed[1:].numpy()

    @contextlib.contextmanager
    def _beside_products(self) -> Iterator[None]:
        """What moves meanwhile is not counted: traffic is that of products."""
        traffic = self.group.traffic
        yield
        self.group.traffic = traffic

    def inner_products(self, V_mp: Tensor, w_p: Tensor) -> Tensor:
        """V w in float64, shape (m,), on the device."""
        return self.sum(linalg.inner_products(V_mp, w_p))

    def exact_products(self, V_mp: Tensor, w_p: Tensor) -> Tensor:
        """The same with every product and sum in float64: for numbers that are printed."""
        return self.sum(linalg.exact_products(V_mp, w_p))

    def norm(self, w_p: Tensor) -> Tensor:
        """|w| in float64, a scalar on the device, whatever the scale of its entries."""
        length = linalg.norm(w_p)
        if self.alone:
            return length
        lengths = torch.zeros(self.group.size, dtype=torch.float64, device=length.device)
        lengths[self.group.rank] = length
        return linalg.norm(self.sum(lengths))

    def orthogonalized(self, V_mp: Tensor, w_p: Tensor) -> tuple[Tensor, Tensor]:
        """Take the rows' components out of `w_p` by classical Gram-Schmidt, twice.

        Args:
            V_mp: orthonormal rows.
            w_p: any vector.

        Returns:
            The remainder, a new vector, and the components, float64 of shape (m,), on the device:
            see `linalg.orthogonalized`. Two sums of m numbers over the ranks.
        """
        return linalg.orthogonalized(V_mp, w_p, None if self.alone else self.group.sum_)

    def normal(
        self, purpose: Purpose, *index: int, seed: int, dtype: torch.dtype | None = None
    ) -> Tensor:
        """This process's share of a random vector with standard normal entries, shape (p,).

        Args:
            purpose: what it is for.
            index: which draw of that purpose.
            seed: of the run.
            dtype: another than the space's.

        Returns:
            The share, drawn without the rest: all shares together are the same vector for any
            number of ranks.
        """
        return streams.normal(
            purpose,
            *index,
            seed=seed,
            size=self.size,
            part=self.shares.part(self.group.rank),
            dtype=dtype or self.dtype,
            device=self.device,
        )

    def signs(self, purpose: Purpose, *index: int, seed: int) -> Tensor:
        """The same with entries +1 and -1.

        Args:
            purpose: what it is for.
            index: which draw of that purpose.
            seed: of the run.

        Returns:
            The share, shape (p,).
        """
        return streams.signs(
            purpose,
            *index,
            seed=seed,
            size=self.size,
            part=self.shares.part(self.group.rank),
            dtype=self.dtype,
            device=self.device,
        )

    def probe(self, kind: Kind, purpose: Purpose, *index: int, seed: int) -> Tensor:
        """This process's share of a random vector z with E[zz'] = I, shape (p,).

        Args:
            kind: `rademacher` (entries +1 and -1: the diagonal adds no variance) or `gaussian`.
            purpose: what it is for.
            index: which draw of that purpose.
            seed: of the run.

        Returns:
            The share.
        """
        made = self.normal if kind == "gaussian" else self.signs
        return made(purpose, *index, seed=seed)

    def orthonormal_start(
        self, V_mp: Tensor, purpose: Purpose, *index: int, seed: int
    ) -> Tensor | None:
        """A random unit vector orthogonal to some rows.

        Args:
            V_mp: orthonormal rows.
            purpose: what it is for.
            index: which draw of that purpose.
            seed: of the run.

        Returns:
            This process's share, shape (p,); None where the rows span the whole space.
        """
        if len(V_mp) >= self.size:
            return None
        w_p = self.normal(purpose, *index, seed=seed)
        for _ in range(2):
            w_p = w_p / self.norm(w_p).to(w_p.dtype)
            w_p, _ = self.orthogonalized(V_mp, w_p)
        return w_p / self.norm(w_p).to(w_p.dtype)

    def layer_sums(self, x_p: Tensor, layers: Sequence[Layer]) -> Tensor:
        """Sum of a vector's entries over every layer, float64 of shape (L,), on the device."""
        if self.alone:
            return layer_sums(x_p, layers)
        part = self.shares.part(self.group.rank)
        return self.sum(layer_sums(x_p, [_inside(layer, part) for layer in layers]))


def _inside(layer: Layer, part: slice) -> Layer:
    """What lies of a layer in a part of the vector, counted from its beginning."""
    cut = [
        (max(at, part.start), min(at + size, part.stop))
        for at, size in layer.slices
        if at < part.stop and at + size > part.start
    ]
    slices = tuple((low - part.start, high - low) for low, high in cut)
    return Layer(layer.name, slices or ((0, 0),))


def space_of(operator: SymmetricOperator) -> Space:
    """The space that an operator's vectors are of; whoever shares them out has a `group`."""
    inner: Any = operator
    group: Group | None = None
    while inner is not None and group is None:
        group = getattr(inner, "group", None)
        inner = getattr(inner, "inner", None)
    return Space(operator.size, dtype=operator.dtype, device=operator.device, group=group)
