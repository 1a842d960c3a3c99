"""Parameters that the loss never reaches, left out of the flat vector on request."""

from __future__ import annotations

import torch

from curvtool.errors import InputError
from curvtool.problem.objective import Objective
from curvtool.problem.parameters import MOST_NAMES, lay_out
from curvtool.problem.twice import twice_differentiable
from curvtool.problem.wording import listed


def skip_unused(objective: Objective) -> None:
    """Take parameters out of P that no batch's loss depends on: their rows of H are zero.

    The others keep their order, and H its eigenvalues but for as many zeros (of weight decay W, as
    many W) as elements are left out.

    Args:
        objective: changed in place, before it is evaluated: what is left out no longer requires a
            gradient. A pass of gradients over the batches until every parameter is reached: all
            of them where one is not.

    Raises:
        InputError: where the loss reaches none.
    """
    unreached = dict(zip(objective.layout.names, objective.parameters, strict=True))
    for index in range(objective.num_batches):
        if not unreached:
            return
        with twice_differentiable(dtype=objective.dtype):
            value = objective.loss(objective.module, objective.batch(index))
            if value.weight <= 0 or not value.mean.requires_grad:
                continue
            found = torch.autograd.grad(value.mean, list(unreached.values()), allow_unused=True)
        unreached = {
            name: parameter
            for (name, parameter), gradient in zip(unreached.items(), found, strict=True)
            if gradient is None
        }
    if len(unreached) == len(objective.parameters):
        raise InputError(
            "The loss does not depend on the differentiated parameters, so --skip-unused would "
            "leave none. Check that the model is not called under no_grad and that --params names "
            "parameters the loss reaches."
        )
    if not unreached:
        return
    for parameter in unreached.values():
        parameter.requires_grad_(False)
    elements = sum(parameter.numel() for parameter in unreached.values())
    before = objective.layout.size
    objective.layout, objective.parameters, _ = lay_out(objective.module, objective.patterns)
    objective.notes.append(
        f"--skip-unused leaves out {elements:,} of {before:,} parameters, which the loss never "
        f"reaches: {listed(unreached, most=MOST_NAMES)}."
    )
