"""Functions of torch that are called in another form: the same values, cheaper or more derivatives.

`F.mse_loss` has no derivative in forward mode, and traced it ends the process. A BatchNorm with
running statistics behind a convolution is an affine map of the channels, and the two are one
convolution with other weights: folded, its passes over the activations are gone from the gradient
and from every product (a fifth of the residual net's). The preflight holds the gradient of the
rewritten loss against that of the loss as it was written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint
from torch.utils.weak import WeakIdKeyDictionary

_CONVOLUTIONS = (torch.conv1d, torch.conv2d, torch.conv3d)


@final
class Rewrites(TorchFunctionMode):
    """While it is active, calls under it take the other form."""

    def __init__(self) -> None:
        super().__init__()
        # Output of a convolution -> what made it; forgotten with the output.
        self._convolved: Any = WeakIdKeyDictionary()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.mse_loss:
            return _mse_loss(*args, **kwargs)
        if func is F.batch_norm:
            return self._batch_norm(*args, **kwargs)
        found = func(*args, **kwargs)
        # A kernel that is no plain tensor may be there for the time of its call only.
        if func in _CONVOLUTIONS and set(types) <= {Tensor, nn.Parameter}:
            self._convolved[found] = (func, args, kwargs)
        return found

    def _batch_norm(
        self,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        made = self._convolved.get(input)
        if (
            made is None
            or training
            or running_mean is None
            or running_var is None
            or is_checkpointed()
        ):
            return F.batch_norm(
                input, running_mean, running_var, weight, bias, training, momentum, eps
            )
        scale_C = (running_var + eps).rsqrt()
        if weight is not None:
            scale_C = scale_C * weight
        offset_C = -running_mean * scale_C
        if bias is not None:
            offset_C = offset_C + bias
        return _convolved(*made, scale_C=scale_C, offset_C=offset_C)


def is_checkpointed() -> bool:
    """Whether activation checkpointing will run this again, on the way back."""
    # No mode is active there, for `torch.autograd.grad` is itself a function that modes take over,
    # and what is computed again has to be what was computed.
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(True)
    return hooks is not None and hooks[0].__module__ == checkpoint.__module__


def _convolved(
    func: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    scale_C: Tensor,
    offset_C: Tensor,
) -> Tensor:
    """The convolution with its output channels scaled and moved."""
    given = dict(zip(("input", "weight", "bias"), args, strict=False)) | kwargs
    x, kernel, bias_C = given.pop("input"), given.pop("weight"), given.pop("bias", None)
    kernel = kernel * scale_C.reshape(-1, *[1] * (kernel.ndim - 1))
    if bias_C is not None:
        offset_C = offset_C + bias_C * scale_C
    found: Tensor = func(x, kernel, offset_C, *args[3:], **given)
    return found


def _mse_loss(input: Tensor, target: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    plain = not args and kwargs.keys() <= {"reduction", "size_average", "reduce", "weight"}
    unused = all(kwargs.get(name) is None for name in ("size_average", "reduce", "weight"))
    reduction = kwargs.get("reduction", "mean")
    if not (plain and unused and input.shape == target.shape and reduction in _REDUCTIONS):
        return F.mse_loss(input, target, *args, **kwargs)
    return _REDUCTIONS[reduction]((input - target).square())


_REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda squares: squares,
    "mean": torch.mean,
    "sum": torch.sum,
}
