"""Casts to float32 in a model's code, taken for casts to float64 while it computes in that.

Code for mixed precision writes `x.float()` where single precision is the best that it knows. In
float64 the next layer would refuse the result, and there would be no reference to hold a product
against.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from curvtool.problem.rewrites import is_checkpointed


@final
class InDouble(TorchFunctionMode):
    """While it is active, float32 that is asked for by name is float64.

    Models take norms, softmax and rotations to float32 so that they are not in half precision. In a
    loss of float64 that would round: its differences would be off by eps of float32 over the step,
    and no Llama would pass the preflight.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        # Bits that are read as another type stay what they are.
        if func is not Tensor.view and not is_checkpointed():
            if func is Tensor.float:
                func = Tensor.double
            args = tuple(_doubled(a) for a in args)
            kwargs = {name: _doubled(value) for name, value in kwargs.items()}
        return func(*args, **kwargs)


def _doubled(value: Any) -> Any:
    return torch.float64 if value is torch.float32 else value
