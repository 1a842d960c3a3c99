"""Settings under which a model's loss can be differentiated twice, in full precision.

The fused attention kernels have no second derivative on any device, the encoder's fast path has no
derivative at all, and TF32 or reduced-precision accumulation would make a product noisier than its
dtype says. What has to be written in another form is in `rewrites`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from curvtool.problem.casts import InDouble
from curvtool.problem.rewrites import Rewrites


@contextlib.contextmanager
def twice_differentiable(
    *, rewritten: bool = True, dtype: torch.dtype | None = None
) -> Iterator[None]:
    """Run forward passes on kernels that have second derivatives.

    The graph remembers the kernels; activation checkpointing does not, and makes forward passes on
    the way back that have to be inside, too.

    Args:
        rewritten: whether `Rewrites` apply; without them the loss is what its code says.
        dtype: of tensors that the model makes without saying of which, such as a recurrent
            layer's first state; in float64, of those too that its code makes float32. A copy of
            the model in float64 would not run otherwise.
    """
    default = torch.get_default_dtype()
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    torch.set_default_dtype(dtype or default)
    try:
        with (
            sdpa_kernel(SDPBackend.MATH),
            torch.enable_grad(),
            Rewrites() if rewritten else contextlib.nullcontext(),
            InDouble() if dtype is torch.float64 else contextlib.nullcontext(),
        ):
            yield
    finally:
        torch.set_default_dtype(default)
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


def prepare_modules(module: nn.Module) -> list[str]:
    """Set module flags that change no value, only what differentiating twice needs.

    Train-mode BatchNorm stops moving its running statistics at every product: the batch's own are
    used, the running ones only updated. Embeddings give dense gradients, since sparse ones have
    no derivative.

    Returns:
        Names of the BatchNorm modules that are in train mode.
    """
    names = []
    for name, child in module.named_modules():
        if isinstance(child, _BatchNorm) and child.training:
            child.track_running_stats = False
            names.append(name)
        elif isinstance(child, nn.Embedding):
            child.sparse = False
    return names


class AttentionSeen(TorchFunctionMode):
    """Notes whether the code under it called fused scaled-dot-product attention."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = False

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        # A mode does not see what is called inside a function that it saw.
        inside = func is F.multi_head_attention_forward and not kwargs.get("need_weights", True)
        if inside or func is F.scaled_dot_product_attention:
            self.seen = True
        return func(*args, **kwargs)
