"""Rewrites of modules that leave the function as it is and make it differentiable twice.

Wrappers are taken off: compiled code has no second derivative, and a data-parallel wrapper renames
the parameters. `torch._weight_norm` is written out: its second derivative by two backward passes is
silently wrong (7 to 14 % of a product, torch 2.14.1), and forward mode does not know it. Recurrent
layers leave cuDNN and mkldnn alone, whose kernels are differentiable once, or not in forward mode.
No class of torch is changed: only the modules that were handed in.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.weight_norm import WeightNorm


def cured(module: nn.Module) -> nn.Module:
    """The module without wrappers and with its parts replaced where they need it.

    Args:
        module: changed in place; values, parameters and buffers stay.

    Returns:
        The same module, or the one that its wrappers hold. A second call changes nothing.
    """
    module = unwrapped(module)
    for child in module.modules():
        if isinstance(child, nn.RNNBase) and "forward" not in vars(child):
            child.forward = MethodType(_on_plain_kernels, child)
        elif isinstance(child, _InstanceNorm):
            child._apply_instance_norm = MethodType(  # type: ignore[method-assign]
                _moving_no_statistics, child
            )
        elif isinstance(child, nn.utils.parametrize.ParametrizationList):
            for i, step in enumerate(child):
                if type(step) is _WeightNorm:
                    child[i] = _PlainWeightNorm(step.dim).train(step.training)
        for key, hook in child._forward_pre_hooks.items():
            if type(hook) is WeightNorm:
                child._forward_pre_hooks[key] = _PlainWeightNormHook(hook.name, hook.dim)
    return module


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside `torch.compile` and data-parallel wrappers, its children likewise.

    Args:
        module: its children are replaced in place.

    Returns:
        The innermost module. Its parameters' names have lost the wrappers' prefixes.
    """
    module = _inside(module)
    for child in module.modules():
        child._compiled_call_impl = None  # what `child.compile()` sets
        for name, grandchild in child._modules.items():
            if grandchild is not None:
                child._modules[name] = _inside(grandchild)
    return module


def _inside(module: nn.Module) -> nn.Module:
    # Whoever compiled something has imported it; it takes two seconds.
    dynamo: Any = sys.modules.get("torch._dynamo.eval_frame")
    parallel = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while True:
        if isinstance(module, parallel):
            module = module.module
        elif dynamo is not None and isinstance(module, dynamo.OptimizedModule):
            module = module._orig_mod
        else:
            return module


def _on_plain_kernels(self: nn.RNNBase, *args: Any, **kwargs: Any) -> Any:
    """`forward` of a recurrent layer, by which its copies are bound to themselves."""
    with _plain_kernels():
        return type(self).forward(self, *args, **kwargs)


@contextlib.contextmanager
def _plain_kernels() -> Iterator[None]:
    # Not by `cudnn.flags()`, which raises under the newer per-operator switches (torch 2.14).
    cudnn, mkldnn = torch._C._get_cudnn_enabled(), torch._C._get_mkldnn_enabled()
    torch._C._set_cudnn_enabled(False)
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_cudnn_enabled(cudnn)
        torch._C._set_mkldnn_enabled(mkldnn)


def _moving_no_statistics(self: Any, x: Tensor) -> Tensor:
    """`_apply_instance_norm` that in train mode leaves the running statistics alone."""
    if not self.training:
        kept: Tensor = type(self)._apply_instance_norm(self, x)
        return kept
    return F.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.eps)


def _plain_weight_norm(v: Tensor, g: Tensor, dim: int) -> Tensor:
    """What `torch._weight_norm` computes; -1 stands for the norm of the whole."""
    summed = [i for i in range(v.ndim) if dim == -1 or i != dim % v.ndim]
    norms: Tensor = v.abs()
    if summed:
        norms = torch.linalg.vector_norm(v, dim=summed, keepdim=dim != -1)
    return v * (g / norms)


class _PlainWeightNorm(_WeightNorm):
    """The parametrization, in primitives."""

    def forward(self, weight_g: Tensor, weight_v: Tensor) -> Tensor:
        return _plain_weight_norm(weight_v, weight_g, self.dim)


class _PlainWeightNormHook(WeightNorm):
    """The older hook, in primitives."""

    def compute_weight(self, module: nn.Module) -> Tensor:
        v, g = (getattr(module, f"{self.name}_{part}") for part in "vg")
        return _plain_weight_norm(v, g, self.dim)
