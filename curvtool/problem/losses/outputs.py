"""Which of the things that a model returns a loss reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass

from torch import Tensor

from curvtool.errors import InputError
from curvtool.problem.wording import did_you_mean, kind_of, listed

# As transformers call the numbers before the softmax, beside hidden states and caches.
USUAL = "logits"


def chosen_output(returned: object, output: str | None, *, loss: str, model: str) -> Tensor:
    """The one output that a loss reads.

    Args:
        returned: what the model returned: a tensor; or a dict, a tuple, a list or a dataclass.
        output: its key, attribute or index, as `[model] output` names it; None for the only tensor
            there, else the one named "logits".
        loss: its name, for messages.
        model: as the spec names it, likewise.

    Returns:
        The very tensor that was returned.

    Raises:
        InputError: listing the outputs, where the one named is not there or is no tensor, or where
            none is named and there are several.
    """
    if isinstance(returned, Tensor):
        if output is not None:
            raise InputError(
                f"{loss} expected {model} to return several outputs, of which one is {output!r}; "
                f"it returns one tensor. Leave --output (output under [model]) out."
            )
        return returned
    there = _outputs_of(returned)
    tensors = [name for name, value in there.items() if isinstance(value, Tensor)]
    if output is None:
        if len(tensors) == 1 or USUAL in tensors:
            output = USUAL if USUAL in tensors else tensors[0]
        elif tensors:
            raise InputError(
                f"{loss} expected {model} to return one tensor, or to be told which; it returns "
                f"{kind_of(returned)}: {_described(there)}. Name one: --output {tensors[0]}, or "
                f'output = "{tensors[0]}" under [model]; or use --loss file.py:loss.'
            )
        else:
            raise InputError(
                f"{loss} expected {model} to return a tensor, or several; it returned "
                f"{kind_of(returned)}. Read the outputs in a loss of your own: --loss file.py:loss."
            )
    found = there.get(output)
    if isinstance(found, Tensor):
        return found
    came = "there is none of that name" if output not in there else f"that is {kind_of(found)}"
    hint = did_you_mean(output, tensors)
    raise InputError(
        f"{loss} expected the output {output!r} of {model} to be a tensor; {came}. It returns "
        f"{_described(there) or kind_of(returned)}.{hint} Correct --output, or output "
        f"under [model]."
    )


def tensors_of(returned: object) -> dict[str, Tensor]:
    """Outputs that are tensors, by key, attribute or index; of one tensor "0"."""
    if isinstance(returned, Tensor):
        return {"0": returned}
    return {name: t for name, t in _outputs_of(returned).items() if isinstance(t, Tensor)}


def _outputs_of(returned: object) -> dict[str, object]:
    """Outputs by key, attribute or index."""
    if isinstance(returned, Mapping):
        return {str(name): value for name, value in returned.items()}
    if isinstance(returned, tuple) and hasattr(returned, "_fields"):
        return {str(name): getattr(returned, name) for name in returned._fields}
    if isinstance(returned, Sequence) and not isinstance(returned, str | bytes):
        return {str(i): value for i, value in enumerate(returned)}
    if is_dataclass(returned):
        return {field.name: getattr(returned, field.name) for field in fields(returned)}
    return dict(vars(returned)) if hasattr(returned, "__dict__") else {}


def _described(there: Mapping[str, object]) -> str:
    """'logits (float32 of shape (2, 10)), cache (list of 3)'."""
    return listed(
        f"{name} ({kind_of(value).removeprefix('a tensor, ')})"
        for name, value in there.items()
        if value is not None
    )
