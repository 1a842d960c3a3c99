"""Derivatives that torch does not have: from its RuntimeError to a sentence with the place."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from curvtool.errors import PreflightError

_OPERATION = re.compile(r"derivative for '?(?:aten::)?(\w+)'? is not implemented")
# What torch says, and what helps.
_REMEDIES = (
    (
        _OPERATION,
        "Write that operation in terms of others (elementwise functions, products, sums), which "
        "leaves the loss as it is.",
    ),
    (
        re.compile(r"double backward|differentiate twice|donated buffer"),
        "Take compiled, fused or custom operations out of the model: load it without "
        "torch.compile, and with its plain implementations.",
    ),
    (
        re.compile(r"use_reentrant|checkpoint"),
        "Switch activation checkpointing off, or give it use_reentrant=False.",
    ),
    (
        re.compile(r"modified by an inplace operation"),
        "A forward pass writes into a tensor that an earlier one kept: take that out of the "
        "model, or rebuild every pass with --hvp reverse-over-reverse.",
    ),
    (
        re.compile(r"ZeroTensors are immutable"),
        "Write the mean squared error out, (a - b).square().mean(), or use --hvp retained-graph.",
    ),
    (
        re.compile(
            r"forward AD|forward gradient|torch\.func\.|functorch|jvp function|doesn't have storage"
        ),
        "Forward mode does not reach that code: use --hvp retained-graph.",
    ),
    (
        re.compile(r"does not require grad|backward through the graph a second time"),
        "Some code in the model or the loss cuts the graph: look for detach, no_grad, .data and "
        "custom autograd functions.",
    ),
)
# Nodes between a module's output and its inputs; a cap for models whose inputs have no graph.
_MOST_NODES = 10_000


@contextlib.contextmanager
def missing_derivatives_named(module: nn.Module, run: Callable[[], object]) -> Iterator[None]:
    """Turn torch's errors about derivatives into a sentence.

    Args:
        module: the model.
        run: a forward pass; it is run again to find the module that uses the operation.

    Yields:
        Nothing.

    Raises:
        PreflightError: caused by torch's error. Other errors, want of memory among them, come
            through unchanged.
    """  # noqa: DOC501  # what comes through is not raised here
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        said = str(error)
        remedy = next((remedy for sign, remedy in _REMEDIES if sign.search(said)), None)
        if remedy is None and not isinstance(error, NotImplementedError):
            raise
        raise PreflightError(
            "The product needs the loss differentiated twice; "
            f"{_what_came(said, module, run)} {remedy or ''}".rstrip()
        ) from error


def _what_came(said: str, module: nn.Module, run: Callable[[], object]) -> str:
    found = _OPERATION.search(said)
    if found is None:
        return f"torch refuses: {said.splitlines()[0].rstrip('.')}."
    operation = found[1].strip("_").removesuffix("_backward")
    which = "second derivative" if found[1].endswith("_backward") else "derivative"
    place = place_of(operation, module, run)
    return f"torch has no {which} of {operation}{f', used in {place}' if place else ''}."


def place_of(operation: str, module: nn.Module, run: Callable[[], object]) -> str | None:
    """The innermost module between whose inputs and outputs an operation is.

    Args:
        operation: name of its node in the graph, without "Backward".
        module: the model.
        run: a forward pass.

    Returns:
        The module's name and class, as "0.norm (LayerNorm)"; None where the loss itself has it.
    """
    wanted = _squeezed(operation)
    names = {child: name for name, child in module.named_modules()}
    found: list[nn.Module] = []

    def look(child: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        inputs = {t.grad_fn for t in _tensors((args, kwargs))}
        if not found and wanted in _operations(_tensors(output), until=inputs):
            found.append(child)

    # Children are done before their parents, so that the first to show it is the innermost.
    handles = [child.register_forward_hook(look, with_kwargs=True) for child in names]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        return None
    return f"{names[found[0]] or 'the model'} ({type(found[0]).__name__})"


def _operations(outputs: Sequence[Tensor], *, until: set[Any]) -> set[str]:
    """Names of the graph's nodes from the outputs back to the nodes `until`."""
    seen: set[Any] = {None, *until}
    waiting = [t.grad_fn for t in outputs]
    names = set()
    while waiting and len(seen) < _MOST_NODES:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        names.add(_squeezed(re.sub(r"Backward\d*$", "", node.name())))
        waiting += [further for further, _ in node.next_functions]
    return names


def _tensors(value: Any) -> list[Tensor]:
    """The tensors in a value or, nested, in lists, tuples and dicts."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return []
    return [t for item in value for t in _tensors(item)]


def _squeezed(name: str) -> str:
    return name.replace("_", "").lower()
