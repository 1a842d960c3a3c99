"""Pearlmutter's R-operator by forward-mode AD over the gradient.

Here it is the second, independent exact way that the preflight holds the chosen one against.
Letters: P parameters.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor

from curvtool.problem.objective import Objective


def forward_over_reverse(objective: Objective) -> Callable[[Tensor], Tensor]:
    """A product made by forward-mode AD over the gradient: an independent exact way.

    Args:
        objective: any objective; every batch is rebuilt.

    Returns:
        A function of v, shape (P,), that gives H v. It raises `NotImplementedError` or
        `RuntimeError` where an operation has no forward-mode derivative.
    """
    layout = objective.layout

    def product(v_P: Tensor) -> Tensor:
        Hv_P = v_P * objective.weight_decay
        for index in objective.active:
            with warnings.catch_warnings(), forward_ad.dual_level():
                # torch scripts the forward derivatives of softmax and the norms on first use.
                warnings.filterwarnings("ignore", message=".*torch.jit.script. is deprecated")
                duals = [
                    forward_ad.make_dual(p.detach().requires_grad_(), t)  # type: ignore[no-untyped-call]
                    for p, t in zip(objective.parameters, layout.split(v_P), strict=True)
                ]
                gradients = objective.batch_gradient_at(index, duals, create_graph=True)
                tangents = [
                    forward_ad.unpack_dual(g).tangent  # type: ignore[no-untyped-call]
                    for g in gradients
                ]
                Hv_P += layout.join([
                    torch.zeros_like(p) if t is None else t.detach()
                    for p, t in zip(objective.parameters, tangents, strict=True)
                ])
        return Hv_P

    return product
