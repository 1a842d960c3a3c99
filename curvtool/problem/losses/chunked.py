"""Linear layer and cross-entropy in one, by chunks of tokens: no (N, V) buffer, twice over.

For logits z = h W' + b and targets q the sum is L = sum_n sum_c q_nc (lse(z_n) - z_nc). With a
factor g, the derivative of whatever is made of L, the function g L has

    gradient    g r W,  g r' h,  g sum_n r_n  by h, W, b, and L by g, where
                p = softmax(z),  m_n = sum_c q_nc,  r = m p - q
    Hessian u   s W + g r u_W,  s' h + g r' u_h,  sum_n s_n,  and sum_n r_n . dz_n for g, where
                dz = u_h W' + h u_W' + u_b,  s = g m (p dz - p (p . dz)) + u_g r

`_Sum` is L, `_Gradient` the gradient, `_Product` the Hessian's product. Each makes the logits of a
chunk again from h and W, which are all that a graph keeps, and each is the backward of the one
before; forward mode is made of the same, for a Hessian is symmetric. (The gradient by chunks is
known from training: Hsu et al. 2024, "Liger Kernel". Its derivative along u is Pearlmutter 1994.)

Letters: N tokens, V vocabulary, D width, C tokens of a chunk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from curvtool.problem.losses.chunks import Sums, Targets, chunks_of, logits, logits_along, residual

_Maybe = Tensor | None


def summed_cross_entropy(
    h_ND: Tensor, W_VD: Tensor, b_V: Tensor | None, targets: Targets, *, chunk_tokens: int
) -> Tensor:
    """Cross-entropy of the logits h W' + b summed over tokens, differentiable twice.

    In reverse and in forward mode, and under `torch.func`; a third derivative raises
    `NotImplementedError`.

    Args:
        h_ND: hidden states.
        W_VD: weight of the linear layer.
        b_V: its bias.
        targets: by `targets_of`.
        chunk_tokens: C.

    Returns:
        A scalar of h's dtype, accumulated in float64. Of matrix products (N, D) by (D, V) the sum
        costs one, its gradient three and a Hessian product seven, where kept logits need one, two
        and six. At most five tensors (C, V) are there at a time; a graph keeps h, W and b.
    """
    total: Tensor = _Sum.apply(h_ND, W_VD, b_V, *targets, chunk_tokens)
    return total


def most_likely(h_ND: Tensor, W_VD: Tensor, b_V: Tensor | None, *, chunk_tokens: int) -> Tensor:
    """The class with the largest logit.

    Args:
        h_ND: hidden states.
        W_VD: weight of the linear layer.
        b_V: its bias.
        chunk_tokens: C.

    Returns:
        Classes, shape (N,).
    """
    chunks = torch.split(h_ND, chunk_tokens)
    return torch.cat([F.linear(h_CD, W_VD, b_V).argmax(-1) for h_CD in chunks])


@final
class _Sum(Function):
    """L of h, W, b. Further arguments: the targets' four tensors, C."""

    @staticmethod
    def forward(h_ND: Tensor, W_VD: Tensor, b_V: _Maybe, *rest: Any) -> Tensor:
        *targets, chunk = rest
        total = torch.zeros((), dtype=torch.float64, device=h_ND.device)
        for rows, part in chunks_of(Targets(*targets), chunk):
            logp_CV = F.log_softmax(logits(h_ND[rows], W_VD, b_V), dim=-1)
            terms_C = part.on_label_N * logp_CV.gather(1, part.labels_N[:, None]).squeeze(1)
            if part.spread_V is not None:
                terms_C = terms_C + logp_CV @ part.spread_V
            # Not by their factor zero alone: what is masked may hold infinity.
            terms_C = terms_C.where(part.counted_N > 0, 0)
            total = total - terms_C.sum(dtype=torch.float64)
        return total.to(h_ND.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG004
        *tensors, chunk = inputs
        _keep(ctx, tensors, chunk)

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        (g,) = cotangents
        wanted = (g is not None and w for w in ctx.needs_input_grad[:3])
        return (*_gradient(g, ctx.saved_tensors, ctx.chunk, wanted), *(None,) * 5)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        u = tangents[:3]
        one = ctx.saved_tensors[0].new_ones(())
        gradients = _gradient(one, ctx.saved_tensors, ctx.chunk, (t is not None for t in u))
        slopes = [(a * t).sum() for a, t in zip(gradients, u, strict=True) if a is not None]
        return sum(slopes[1:], start=slopes[0])

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> Any:
        return _one_by_one(_Sum, info, in_dims, args)


@final
class _Gradient(Function):
    """Gradient of g L by h, W, b. Further arguments: as above, and which of the three to make."""

    @staticmethod
    def forward(
        g: Tensor, h_ND: Tensor, W_VD: Tensor, b_V: _Maybe, *rest: Any
    ) -> tuple[_Maybe, ...]:
        *targets, chunk, wanted = rest
        sums = Sums(wanted)
        for rows, part in chunks_of(Targets(*targets), chunk):
            r_CV = residual(logits(h_ND[rows], W_VD, b_V).softmax(-1), part)
            sums.add(rows, r_CV, g.expand(len(r_CV)), h_ND[rows], W_VD)
        return sums.results(h_ND.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG004
        *tensors, chunk, ctx.wanted = inputs
        _keep(ctx, tensors, chunk)

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        want_g, *want = ctx.needs_input_grad[:4]
        u = (*cotangents, None)
        *out, out_g = _product(u, ctx.saved_tensors, ctx.chunk, (*want, want_g))
        return (out_g, *out, *(None,) * 6)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        u_g, *u = tangents[:4]
        return _product((*u, u_g), ctx.saved_tensors, ctx.chunk, (*ctx.wanted, False))[:3]

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> Any:
        return _one_by_one(_Gradient, info, in_dims, args)


@final
class _Product(Function):
    """Hessian of g L by (h, W, b, g) times (u_h, u_W, u_b, u_g), linear and symmetric in u.

    Further arguments: those of `_Gradient`, with four to make or not. An absent u is zero.
    """

    @staticmethod
    def forward(
        u_h: _Maybe, u_W: _Maybe, u_b: _Maybe, u_g: _Maybe, g: Tensor, *rest: Any
    ) -> tuple[_Maybe, ...]:
        h_ND, W_VD, b_V, *targets, chunk, wanted = rest
        sums = Sums(wanted[:3])
        slope = torch.zeros((), dtype=torch.float64, device=g.device)
        for rows, part in chunks_of(Targets(*targets), chunk):
            h_CD, v_CD = h_ND[rows], None if u_h is None else u_h[rows]
            p_CV = logits(h_CD, W_VD, b_V).softmax(-1)
            r_CV = residual(p_CV, part)
            sums.add(rows, r_CV, g.expand(len(h_CD)), v_CD, u_W, to_bias=False)
            if u_g is not None:
                sums.add(rows, r_CV, u_g.expand(len(h_CD)), h_CD, W_VD)
            dz_CV = logits_along(h_CD, W_VD, v_CD, u_W, u_b)
            if dz_CV is None:
                continue
            if wanted[3]:
                slope = slope + (r_CV * dz_CV).sum(dtype=torch.float64)
            del r_CV
            s_CV = dz_CV.sub_((p_CV * dz_CV).sum(-1, keepdim=True)).mul_(p_CV)
            sums.add(rows, s_CV, g * part.mass_N, h_CD, W_VD)
        return *sums.results(h_ND.dtype), slope.to(g.dtype) if wanted[3] else None

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG004
        *tensors, chunk, ctx.wanted = inputs
        _keep(ctx, tensors[4:], chunk)

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        # By u alone: on the way to g, h, W, b stands `_NoFurther`.
        out = _product(cotangents, ctx.saved_tensors, ctx.chunk, ctx.needs_input_grad[:4])
        return (*out, *(None,) * 10)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return _product(tangents[:4], ctx.saved_tensors, ctx.chunk, ctx.wanted)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> Any:
        return _one_by_one(_Product, info, in_dims, args)


@final
class _NoFurther(Function):
    """The identity, which refuses to be differentiated: better than a silent zero."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        raise NotImplementedError("cross_entropy with a head has no third derivative.")

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise NotImplementedError("cross_entropy with a head has no third derivative.")


def _gradient(g: Tensor, at: Sequence[_Maybe], chunk: int, wanted: Iterator[bool]) -> Any:
    """`_Gradient` at (h, W, b, targets)."""
    made = tuple(wanted)
    if not any(made):
        return (None,) * 3
    return _Gradient.apply(g, *at, chunk, made)


def _product(u: Sequence[_Maybe], at: Sequence[_Maybe], chunk: int, wanted: Sequence[bool]) -> Any:
    """`_Product` at (g, h, W, b, targets)."""
    if not any(wanted) or all(t is None for t in u):
        return (None,) * 4
    last = [None if t is None else _NoFurther.apply(t) for t in at[:4]]
    return _Product.apply(*u, *last, *at[4:], chunk, tuple(wanted))


def _keep(ctx: Any, tensors: Sequence[_Maybe], chunk: int) -> None:
    ctx.set_materialize_grads(False)  # zeros of V by D would be multiplied as if they were numbers
    ctx.save_for_backward(*tensors)
    ctx.save_for_forward(*tensors)
    ctx.chunk = chunk


def _one_by_one(
    function: type[Function], info: Any, in_dims: tuple[Any, ...], args: tuple[Any, ...]
) -> tuple[Any, Any]:
    """A block of vectors one at a time, so that it takes the memory of one."""
    results = [
        function.apply(
            *(
                a.select(d, i) if isinstance(d, int) else a
                for a, d in zip(args, in_dims, strict=True)
            )
        )
        for i in range(info.batch_size)
    ]
    if isinstance(results[0], Tensor):
        return torch.stack(results), 0
    columns = list(zip(*results, strict=True))
    stacked = tuple(None if c[0] is None else torch.stack(c) for c in columns)
    return stacked, tuple(None if t is None else 0 for t in stacked)
