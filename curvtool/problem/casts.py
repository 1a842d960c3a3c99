"""Casts to float32 in a model's code, taken for casts to float64 while it computes in that.

Code for mixed precision writes `x.float()` where single precision is the best that it knows. In
float64 the next layer would refuse the result, and there would be no reference to hold a product
against.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_CASTS = (Tensor.to, Tensor.type)


class FloatsAreDoubles(TorchFunctionMode):
    """Reads float32 as float64 wherever code names it as the type of a result."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.float:
            return args[0].double()
        if func in _CASTS:
            args = tuple(torch.float64 if a is torch.float32 else a for a in args)
        if kwargs.get("dtype") is torch.float32:
            kwargs = kwargs | {"dtype": torch.float64}
        return func(*args, **kwargs)
