"""Forward mode: Pearlmutter's R-operator over the gradient, and the reverse of it.

Forward over reverse differentiates the gradient along v. Reverse over forward differentiates the
loss along v and takes the gradient of that: right by the book, but PyTorch's forward derivatives of
LayerNorm and train-mode BatchNorm are not differentiable and silently give a wrong product.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor

from curvtool.operators.ways.base import Pieces, detached
from curvtool.problem.objective import Objective


@contextlib.contextmanager
def quiet_forward_mode() -> Iterator[None]:
    """Keep torch's word to itself that it scripts the derivatives of softmax and the norms."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.script. is deprecated")
        yield


def forward_over_reverse(objective: Objective, index: int, v: Pieces) -> Pieces:
    """The batch's part of H v by forward-mode AD over its gradient: about three gradients.

    By `torch.func.jvp(torch.func.grad(f))`, and by dual numbers where torch.func cannot go
    (activation checkpointing, BatchNorm in train mode, code that reads values).

    Args:
        objective: the objective.
        index: of the batch.
        v: the vector's pieces.

    Returns:
        The part's pieces.
    """  # noqa: DOC501  # want of memory comes through
    try:
        return functional(objective, index, v)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, NotImplementedError):
        return dual_numbers(objective, index, v)


def functional(objective: Objective, index: int, v: Pieces) -> Pieces:
    """`jvp(grad(f))`; raises `RuntimeError` where torch.func does not reach."""
    objective.share(index)  # which evaluates the objective where nobody has, outside the transforms
    primals = tuple(p.detach() for p in objective.parameters)

    def loss(parameters: tuple[Tensor, ...]) -> Tensor:
        return objective.batch_loss_at(index, parameters)

    with quiet_forward_mode():
        gradient = torch.func.grad(loss)
        tangents: tuple[Tensor, ...] = torch.func.jvp(gradient, (primals,), (tuple(v),))[1]
    return detached(tangents, primals)


def dual_numbers(objective: Objective, index: int, v: Pieces) -> Pieces:
    """The gradient of dual parameters; raises where an operation has no forward derivative."""
    objective.share(index)
    leaves = [p.detach().requires_grad_() for p in objective.parameters]
    with quiet_forward_mode(), forward_ad.dual_level():
        gradients = objective.batch_gradient_at(index, _duals(leaves, v), create_graph=True)
        return detached([_tangent(g) for g in gradients], leaves)


def reverse_over_forward(objective: Objective, index: int, v: Pieces) -> Pieces:
    """The batch's part of H v as the gradient of the loss's slope along v: about three gradients.

    By `torch.func.grad` of `torch.func.jvp`. Wrong through LayerNorm and BatchNorm in train mode
    (torch 2.14.1), so that nothing but a preflight may clear it.

    Args:
        objective: the objective.
        index: of the batch.
        v: the vector's pieces.

    Returns:
        The part's pieces.
    """
    objective.share(index)
    primals = tuple(p.detach() for p in objective.parameters)

    def slope(parameters: tuple[Tensor, ...]) -> Tensor:
        def loss(at: tuple[Tensor, ...]) -> Tensor:
            return objective.batch_loss_at(index, at)

        along: Tensor = torch.func.jvp(loss, (parameters,), (tuple(v),))[1]
        return along

    with quiet_forward_mode():
        return detached(torch.func.grad(slope)(primals), primals)


def _duals(leaves: Pieces, v: Pieces) -> list[Tensor]:
    return [
        forward_ad.make_dual(p, t)  # type: ignore[no-untyped-call]
        for p, t in zip(leaves, v, strict=True)
    ]


def _tangent(t: Tensor) -> Tensor | None:
    tangent: Tensor | None = forward_ad.unpack_dual(t).tangent  # type: ignore[no-untyped-call]
    return tangent


def whole_product(objective: Objective) -> Callable[[Tensor], Tensor]:
    """Products over the whole dataset by dual numbers: an independent exact way for checks.

    Args:
        objective: any objective; every batch is rebuilt.

    Returns:
        A function of v, shape (P,), that gives H v. It raises `NotImplementedError` or
        `RuntimeError` where an operation has no forward-mode derivative.
    """

    def product(v_P: Tensor) -> Tensor:
        Hv_P = v_P * objective.weight_decay
        v = objective.layout.split(v_P)
        for index in objective.active:
            Hv_P += objective.layout.join(dual_numbers(objective, index, v))
        return Hv_P

    return product
