"""Weights of classes, and what they make of a mean's denominator."""

from __future__ import annotations

import torch
from torch import Tensor

from curvtool.errors import InputError


class ClassWeights:
    """The weights as a tensor like the outputs, made once for each device and type."""

    def __init__(self, name: str, values: list[float] | None) -> None:
        self._name, self._values = name, values
        self._made: dict[tuple[torch.device, torch.dtype], Tensor] = {}
        numbers = values is None or (
            isinstance(values, list)
            and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        )
        if not numbers or min(values or [0]) < 0 or not all(v < float("inf") for v in values or []):
            raise InputError(
                f"{name} expected class_weights as a list of numbers of at least 0, one a class; "
                f"got {values!r}. Write for example class_weights = [1.0, 2.5]."
            )

    def require_length(self, classes: int) -> None:
        """Refuse another number of weights than of classes."""
        if self._values is not None and len(self._values) != classes:
            raise InputError(
                f"{self._name} expected {classes} class_weights, one for each output of the "
                f"model; got {len(self._values)}. Correct kwargs under [loss]."
            )

    def summed(self, labels: Tensor, classes: int) -> float:
        """Weights of labels, none of them masked; zero where one is out of range."""
        if self._values is None:
            return float(len(labels))
        if not len(labels) or not 0 <= int(labels.min()) <= int(labels.max()) < classes:
            return 0.0
        # In float64, so that no division of the data into batches shows.
        table = torch.tensor(self._values, dtype=torch.float64, device=labels.device)
        return float(table[labels].sum())

    def of_each(self, labels: Tensor, ignore_index: int) -> Tensor:
        """What each label adds to the denominator, in float64: nothing where it is masked."""
        counted = (labels != ignore_index).to(torch.float64)
        if self._values is None:
            return counted
        table = torch.tensor(self._values, dtype=torch.float64, device=labels.device)
        return counted * table[labels.clamp(0, len(self._values) - 1)]

    def like(self, outputs: Tensor) -> Tensor | None:
        """The weights on the device and in the type of the outputs."""
        if self._values is None:
            return None
        key = (outputs.device, outputs.dtype)
        if key not in self._made:
            self._made[key] = torch.tensor(self._values, dtype=outputs.dtype, device=outputs.device)
        return self._made[key]
