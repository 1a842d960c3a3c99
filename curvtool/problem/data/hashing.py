"""SHA-256 of the examples, whatever their division into batches and the format they came in."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor

from curvtool.problem.batch import Batch


@final
class DataHash:
    """Fed batch by batch, in order; place by place, so that the division is not in it."""

    def __init__(self) -> None:
        self._places: dict[str, Any] = {}
        self._shapes: dict[str, object] = {}

    def add(self, batch: Batch) -> None:
        """Take in the next batch."""
        values = batch.values
        named = values.items() if isinstance(values, Mapping) else enumerate(values)
        for key, tensor in named:
            self._feed(str(key), tensor)
        if batch.weights is not None:
            self._feed("weights of the examples", batch.weights)

    def hexdigest(self) -> str:
        """Of all batches so far."""
        whole = hashlib.sha256()
        for key in sorted(self._places):
            whole.update(f"{key}={self._places[key].hexdigest()};".encode())
        return whole.hexdigest()

    def _feed(self, key: str, tensor: Tensor) -> None:
        place = self._places.setdefault(key, hashlib.sha256())
        shape = (str(tensor.dtype), tuple(tensor.shape[1:]))
        if self._shapes.get(key) != shape:
            self._shapes[key] = shape
            place.update(repr(shape).encode())
        place.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
