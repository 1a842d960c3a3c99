"""What the passes over chunks of tokens in `chunked.py` are made of.

Letters: N tokens, V vocabulary, D width, C tokens of a chunk; p, r, m, q as in `chunked.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, final

import torch
import torch.nn.functional as F
from torch import Tensor

_Maybe = Tensor | None


@final
class Targets(NamedTuple):
    """Targets q of every token without a number for every class: on_label e_label + spread.

    Labels are in range, masked tokens' too; both factors of these are zero.
    """

    labels_N: Tensor
    on_label_N: Tensor
    counted_N: Tensor  # 1 or 0: the factor of `spread_V`
    spread_V: Tensor | None

    def rows(self, rows: slice) -> Targets:
        """Those of some tokens."""
        return Targets(
            self.labels_N[rows], self.on_label_N[rows], self.counted_N[rows], self.spread_V
        )

    @property
    def mass_N(self) -> Tensor:
        """m: the sum of q over the classes."""
        if self.spread_V is None:
            return self.on_label_N
        return self.on_label_N + self.counted_N * self.spread_V.sum()


def targets_of(
    labels_N: Tensor,
    *,
    classes: int,
    dtype: torch.dtype,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    weights_V: Tensor | None = None,
) -> Targets:
    """What `F.cross_entropy` makes of labels.

    Args:
        labels_N: int64.
        classes: V.
        dtype: of the hidden states; half precision is summed in float32.
        ignore_index: the label of masked tokens.
        label_smoothing: share of a target that is spread over all classes.
        weights_V: a weight a class.

    Returns:
        The targets.
    """
    counted_N = labels_N != ignore_index
    labels_N = labels_N.masked_fill(~counted_N, 0)
    factor_N = counted_N.to(_wide(dtype))
    if weights_V is None:
        on_label_N, spread_V = factor_N, factor_N.new_ones(classes)
    else:
        spread_V = weights_V.to(factor_N.dtype)
        on_label_N = factor_N * spread_V[labels_N]
    return Targets(
        labels_N,
        on_label_N * (1 - label_smoothing),
        factor_N,
        spread_V * (label_smoothing / classes) if label_smoothing else None,
    )


@final
class Sums:
    """What chunks add up to: rows for h one below the other, sums for W and b.

    The totals are not added to in place: a traced program would add to those of its last run.
    """

    def __init__(self, wanted: Sequence[bool]) -> None:
        self._want_h, self._want_W, self._want_b = wanted
        self._rows: dict[int, Tensor] = {}
        self._W: Tensor | None = None
        self._b: Tensor | None = None

    def add(
        self,
        rows: slice,
        x_CV: Tensor,
        factor_C: Tensor,
        h_CD: _Maybe,
        W_VD: _Maybe,
        *,
        to_bias: bool = True,
    ) -> None:
        """With y = factor x: y W to the rows of h, y' h to W, the sum of y to b."""
        # The factor goes to the side of D numbers a token, not to that of V.
        if self._want_h and W_VD is not None:
            v_CD = (x_CV.to(W_VD.dtype) @ W_VD) * factor_C.to(W_VD.dtype)[:, None]
            self._rows[rows.start] = _plus(self._rows.get(rows.start), v_CD)
        if self._want_W and h_CD is not None:
            scaled_CD = h_CD * factor_C.to(h_CD.dtype)[:, None]
            self._W = _plus(self._W, (x_CV.to(h_CD.dtype).T @ scaled_CD).to(x_CV.dtype))
        if self._want_b and to_bias:
            self._b = _plus(self._b, factor_C.to(x_CV.dtype) @ x_CV)

    def results(self, dtype: torch.dtype) -> tuple[_Maybe, _Maybe, _Maybe]:
        """Sums for h, W, b."""
        W_VD, b_V = (None if t is None else t.to(dtype) for t in (self._W, self._b))
        return torch.cat([*self._rows.values()]) if self._rows else None, W_VD, b_V


def chunks_of(targets: Targets, chunk: int) -> Iterator[tuple[slice, Targets]]:
    """Rows and targets of every chunk; no tokens are one empty chunk."""
    for start in range(0, max(len(targets.labels_N), 1), chunk):
        rows = slice(start, start + chunk)
        yield rows, targets.rows(rows)


def logits(h_CD: Tensor, W_VD: Tensor, b_V: _Maybe) -> Tensor:
    """Logits of a chunk, in the dtype of sums."""
    return F.linear(h_CD, W_VD, b_V).to(_wide(h_CD.dtype))


def logits_along(
    h_CD: Tensor, W_VD: Tensor, v_CD: _Maybe, u_W: _Maybe, u_b: _Maybe
) -> Tensor | None:
    """Their tangent dz, a tensor of its own; None where nothing of u is there."""
    dz_CV: Tensor | None = None if v_CD is None else logits(v_CD, W_VD, None)
    if u_W is not None:
        dz_CV = _plus(dz_CV, logits(h_CD, u_W, None))
    if u_b is not None:
        u_CV = u_b.to(_wide(u_b.dtype)).expand(len(h_CD), -1)
        dz_CV = u_CV.clone() if dz_CV is None else dz_CV + u_CV
    return dz_CV


def residual(p_CV: Tensor, part: Targets) -> Tensor:
    """The gradient of a token's loss by its logits, r = m p - q."""
    r_CV = part.mass_N[:, None] * p_CV
    r_CV.scatter_add_(1, part.labels_N[:, None], -part.on_label_N[:, None])
    if part.spread_V is not None:
        r_CV.addr_(part.counted_N, part.spread_V, alpha=-1)
    return r_CV


def _plus(a: Tensor | None, b: Tensor) -> Tensor:
    return b if a is None else a + b


def _wide(dtype: torch.dtype) -> torch.dtype:
    """What numbers of a dtype are added up in."""
    return torch.float32 if dtype in {torch.float16, torch.bfloat16} else dtype
