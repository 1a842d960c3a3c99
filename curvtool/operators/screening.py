"""What shows without a number: settings, modules and graph nodes under which a product is wrong.

Every refusal names the module. What has no name, such as `F.dropout` in a forward pass, is left to
the measurements of the preflight.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from curvtool.errors import PreflightError
from curvtool.problem.derivatives import place_of
from curvtool.problem.objective import Evaluation, Objective
from curvtool.problem.wording import listed

MOST_NAMES = 3
# Layers of torchvision and timm that drop whole branches or blocks, and the names of their rates.
_DROPPING = ("StochasticDepth", "DropPath", "DropBlock2d", "DropBlock3d", "PatchDropout")
_RATES = ("p", "drop_prob", "prob")
_NOTHING = "Nothing was computed, for its eigenvalues would mean nothing."
# Every function that `once_differentiable` has wrapped has this code.
_ONCE = once_differentiable(lambda _: None).__code__


def screen(objective: Objective) -> None:
    """Refuse the interpreter's settings and the modules that cannot give a right product.

    Args:
        objective: its module is looked at, nothing is run.

    Raises:
        PreflightError: under `python -O` or PYTORCH_JIT=0, and for random layers, BatchNorm with
            batch statistics unasked and embeddings that rescale their own weights.
    """
    if not __debug__ or os.environ.get("PYTORCH_JIT") in {"0", "0v"}:
        setting = "PYTORCH_JIT=0" if __debug__ else "python -O"
        raise PreflightError(
            f"The checks of a product need forward-mode derivatives of softmax and the norms, and "
            f"torch does not load them under {setting} (PYTHONOPTIMIZE and PYTORCH_JIT set the "
            "same). Run without it."
        )
    _refuse_modules(
        objective,
        _is_random,
        "The loss has to be the same function at every pass; {names} draws anew each time. "
        + (
            "Leave --train-mode out, or set the rate of what drops to 0."
            if objective.train_mode
            else "Set its rate to 0, or let the model's train(False) reach it."
        ),
    )
    if not objective.train_mode:
        _refuse_modules(
            objective,
            _has_batch_statistics,
            "Without --train-mode every example has a loss of its own; {names} normalises by the "
            "statistics of the batch, which couples its examples. Give it running statistics and "
            "let the model's train(False) reach it, or ask for the coupled H by --train-mode.",
        )
    _refuse_modules(
        objective,
        lambda child: getattr(child, "max_norm", None) is not None,
        "The parameters have to stay what they are; {names} has max_norm and rescales its rows "
        "in every forward pass. Build the model with max_norm=None: H at these weights is that "
        "of a model without it.",
    )


def evaluated_twice(sample: Objective) -> tuple[Evaluation, Evaluation]:
    """Evaluate two times, and refuse a model that moves its own state.

    Args:
        sample: a few examples; two gradients.

    Returns:
        Both evaluations.

    Raises:
        PreflightError: where a buffer is another after the second pass than after the first, or a
            parameter was written to.
    """
    # Caches that the first pass fills are none of our business: they are the same ever after.
    first = sample.evaluate()
    buffers = {name: b.clone() for name, b in sample.module.named_buffers()}
    versions = {name: p._version for name, p in sample.module.named_parameters()}
    again = sample.evaluate()
    moved = [n for n, b in sample.module.named_buffers() if not _same(buffers.get(n), b)]
    moved += [n for n, p in sample.module.named_parameters() if p._version != versions.get(n)]
    if moved:
        raise PreflightError(
            "The loss has to be the same function at every pass; every forward pass writes to "
            f"{_tensor_named(moved[0], sample)}. "
            + ("Leave --train-mode out, or take" if sample.train_mode else "Take")
            + f" that out of the model. {_NOTHING}"
        )
    return first, again


def custom_functions(sample: Objective) -> tuple[str, ...]:
    """Names of the custom autograd functions in the loss; their backward is the user's word.

    Args:
        sample: a few examples; one gradient with its graph.

    Returns:
        The classes' names with the places that use them, none for a plain model.

    Raises:
        PreflightError: for one whose backward is marked `once_differentiable`: torch skips the
            node that would raise, and the product is wrong without a word.
    """  # noqa: DOC501  # _once is not itself an exception
    index = sample.active[0]
    nodes = [n for n in _nodes([sample.batch_loss(index)]) if _is_custom(n)]
    names = []
    for kind in dict.fromkeys(type(node) for node in nodes):
        name = kind.__name__.removesuffix("Backward")
        place = place_of(name, sample.module, lambda: sample.batch_loss(index))
        names.append(f"{name} of {place or 'the loss'}")
        if getattr(_backward_of(kind), "__code__", None) is _ONCE:
            raise _once(names[-1])
    try:
        gradients = sample.batch_gradient(index)
    except torch.OutOfMemoryError:
        raise
    except (PreflightError, RuntimeError):
        return tuple(names)  # the way itself may not need it, and says the same where it does
    # One that runs in another's backward shows in the graph of the gradient alone.
    if any(node.name() == "torch::autograd::Error" for node in _nodes(gradients)):
        raise _once(listed(names, most=MOST_NAMES) or "a function in the model or the loss")
    return tuple(names)


def gradient_hint(objective: Objective) -> str:
    """Which modules' gradient is by their own account not that of the loss; empty for none."""
    names = [
        f"{name or 'the model'} ({type(child).__name__})"
        for name, child in objective.module.named_modules()
        if isinstance(child, nn.Embedding)
        and (child.padding_idx is not None or child.scale_grad_by_freq)
    ]
    if not names:
        return ""
    return (
        f"The padding_idx or scale_grad_by_freq of {listed(names, most=MOST_NAMES)} makes its "
        "gradient another than the loss's: build the model without, or leave its weight out by "
        "--params"
    )


def _once(name: str) -> PreflightError:
    return PreflightError(
        f"The product needs the loss differentiated twice; the autograd function {name} is marked "
        "once_differentiable, and torch would leave its part out without a word. Write its "
        f"backward in differentiable operations, or take a plain implementation. {_NOTHING}"
    )


def _refuse_modules(
    objective: Objective, guilty: Callable[[nn.Module], bool], sentence: str
) -> None:
    found = [
        f"{name or 'the model'} ({type(child).__name__})"
        for name, child in objective.module.named_modules()
        if guilty(child)
    ]
    if found:
        names = listed(found, most=MOST_NAMES)
        raise PreflightError(f"{sentence.format(names=names)} {_NOTHING}")


def _is_random(child: nn.Module) -> bool:
    if isinstance(child, nn.FractionalMaxPool2d | nn.FractionalMaxPool3d):
        return getattr(child, "_random_samples", None) is None  # in either mode
    if not child.training:
        return False
    if isinstance(child, nn.RReLU):
        return bool(child.lower != child.upper)
    if isinstance(child, nn.MultiheadAttention):
        return bool(child.dropout > 0)
    if isinstance(child, nn.RNNBase):
        return bool(child.dropout > 0 and child.num_layers > 1)
    if isinstance(child, _DropoutNd) or type(child).__name__ in _DROPPING:
        return any(_positive(getattr(child, rate, None)) for rate in _RATES)
    return False


def _positive(rate: Any) -> bool:
    return isinstance(rate, int | float) and rate > 0


def _has_batch_statistics(child: nn.Module) -> bool:
    return isinstance(child, _BatchNorm) and (child.training or child.running_mean is None)


def _same(before: Tensor | None, after: Tensor) -> bool:
    if before is None or before.shape != after.shape:
        return False
    return bool(((before == after) | ((before != before) & (after != after))).all())  # NaN too


def _tensor_named(name: str, sample: Objective) -> str:
    owner, _, tensor = name.rpartition(".")
    kind = type(sample.module.get_submodule(owner)).__name__
    return f"{tensor!r} of {owner or 'the model'} ({kind})"


def _nodes(outputs: Any) -> Iterator[Any]:
    """All nodes of the graph behind some tensors."""
    seen: set[Any] = {None}
    waiting = [t.grad_fn for t in outputs]
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            yield node
            waiting += [further for further, _ in node.next_functions]


def _is_custom(node: Any) -> bool:
    return isinstance(node, torch.autograd.function.BackwardCFunction)


def _backward_of(kind: Any) -> Any:
    """The user's `backward` (or `vjp`) behind a class of nodes."""
    function = kind._forward_cls
    return function.backward if function.vjp is torch.autograd.Function.vjp else function.vjp
