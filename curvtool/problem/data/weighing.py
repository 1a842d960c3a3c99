"""What each example, or each of its predictions, counts: `weights = "NAME"` under [data]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from curvtool.errors import InputError
from curvtool.problem.batch import Batch, BatchValues
from curvtool.problem.data.examples import first_dimension
from curvtool.problem.wording import did_you_mean, listed


def weighed(
    read: tuple[BatchValues, Tensor | None], name: str | None, label: str, *, inputs: Sequence[str]
) -> Batch:
    """A batch with its weights apart from its values.

    Args:
        read: the values, and the weights where the format has them apart.
        name: of the entry of `values` that holds the weights, where it does not.
        label: whose batch it is, for messages.
        inputs: names of the model's inputs: a mask may be both.

    Returns:
        The batch.

    Raises:
        InputError: for weights that are not there, of another shape, or below zero.
    """
    values, weights = read
    examples = first_dimension(values)
    if name is None:
        return Batch(values, examples)
    if weights is None:
        if not isinstance(values, Mapping):
            raise InputError(
                f"{label}: expected batches whose parts have names, since the weights are to be "
                f"{name!r}; got tuples. Give dicts, or leave weights out."
            )
        if name not in values:
            raise InputError(
                f"{label}: expected an entry {name!r} in each batch, the weights; got "
                f"{listed(values)}.{did_you_mean(name, values)} Correct weights under [data]."
            )
        weights = values[name]
        if name not in inputs:
            values = {key: value for key, value in values.items() if key != name}
            examples = first_dimension(values)
    if weights.ndim == 0 or len(weights) != examples:
        raise InputError(
            f"{label}: expected a weight for each of {examples} examples, or for each of their "
            f"predictions; {name!r} has shape {tuple(weights.shape)}. Correct weights under [data]."
        )
    if not weights.is_floating_point():
        weights = weights.to(torch.float64)
    if not bool(torch.isfinite(weights).all()) or (len(weights) and float(weights.min()) < 0):
        raise InputError(
            f"{label}: expected weights of at least 0; {name!r} holds {float(weights.min()):g}. "
            f"Leave examples out by the weight 0."
        )
    return Batch(values, examples, weights)
