"""Settings under which a model's loss can be differentiated twice, in full precision.

The fused attention kernels have no second derivative on any device, the encoder's fast path
has no derivative at all, and TF32 or reduced-precision accumulation would make a product noisier
than its dtype says.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode


@contextlib.contextmanager
def twice_differentiable() -> Iterator[None]:
    """Run forward passes on kernels that have second derivatives.

    Only the forward pass needs to be inside: the graph remembers the kernels.
    """
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), torch.enable_grad():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Switch TF32 and reduced-precision accumulation off; restore both on the way out."""
    # The older switches, since the newer per-operator ones make `cudnn.flags()` raise (torch 2.14).
    matmul = torch.backends.cuda.matmul
    before = (
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.allow_tf32,
        matmul.allow_fp16_reduced_precision_reduction,
        matmul.allow_bf16_reduced_precision_reduction,
    )
    try:
        _set_precision("highest", False, False, False)
        yield
    finally:
        _set_precision(*before)


def _set_precision(matmul: str, cudnn_tf32: bool, fp16: bool, bf16: bool) -> None:
    torch.set_float32_matmul_precision(matmul)
    torch.backends.cudnn.allow_tf32 = cudnn_tf32
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = fp16
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = bf16


def protect_statistics(module: nn.Module) -> list[str]:
    """Stop train-mode BatchNorm from moving its running statistics at every product.

    In train mode the statistics of the batch are used and the running ones only updated, so
    that leaving them alone changes no value.

    Returns:
        Names of the BatchNorm modules that are in train mode.
    """
    names = []
    for name, child in module.named_modules():
        if isinstance(child, _BatchNorm) and child.training:
            child.track_running_stats = False
            names.append(name)
    return names


class AttentionSeen(TorchFunctionMode):
    """Notes whether the code under it called fused scaled-dot-product attention."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = False

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,  # noqa: ARG002 - the signature is torch's
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is torch.nn.functional.scaled_dot_product_attention:
            self.seen = True
        return func(*args, **(kwargs or {}))
