"""Running the model on the data's inputs, with a sentence for what it raises."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from curvtool.errors import HookError, InputError
from curvtool.problem.losses.taking import Setting, Taken
from curvtool.problem.wording import first_line, shape_of


def called(
    model: nn.Module, taken: Taken, setting: Setting, *, explain: bool, hint: str = ""
) -> object:
    """What the model returns.

    Args:
        model: run once.
        taken: what it is called with.
        setting: how the spec names the model, and whether it is the user's code.
        explain: turn what it raises into a sentence. Without it exceptions come through, since
            the caller may know a way round them.
        hint: what else to check, for that sentence.

    Returns:
        Its output as it is.

    Raises:
        InputError: caused by what the model raised; `HookError` where it is the user's. Other
            `InputError` come through, and so does the want of memory.
    """  # noqa: DOC501  # raised on
    if not explain:
        return model(*taken.arguments, **taken.named)
    try:
        return model(*taken.arguments, **taken.named)
    except (InputError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        kind = HookError if setting.user_model else InputError
        shown = [shape_of(t) for t in taken.arguments]
        shown += [f"{name}: {shape_of(t)}" for name, t in taken.named.items()]
        raise kind(
            f"{setting.model} was expected to run on the data's inputs; given {', '.join(shown)} "
            f"it raised {type(error).__name__}: {first_line(error)}. Check that data, model and "
            f"its arguments belong together{hint}.{_beyond_the_vocabulary(error, model, taken)}"
            f"{_whole(error, taken)}"
        ) from error


def _beyond_the_vocabulary(error: Exception, model: nn.Module, taken: Taken) -> str:
    """Tokens that no embedding has a row for, where that may be what was raised."""
    if not isinstance(error, IndexError):
        return ""
    rows = {name: m.num_embeddings for name, m in model.named_modules() if _is_embedding(m)}
    tokens = [t for t in taken.inputs if isinstance(t, Tensor) and not t.is_floating_point()]
    if not rows or not any(t.numel() for t in tokens):
        return ""
    most = max(int(t.max()) for t in tokens if t.numel())
    name = max(rows, key=lambda key: int(rows[key]))
    if most < int(rows[name]):
        return ""
    return (
        f" The largest number in the data is {most:,}, and the embedding {name!r} has "
        f"{int(rows[name]):,} rows: data and model are of different vocabularies."
    )


def _whole(error: Exception, taken: Taken) -> str:
    """Whole numbers where others are wanted, as a table of counts or pixels has them."""
    whole = any(isinstance(t, Tensor) and not t.is_floating_point() for t in taken.inputs)
    if not whole or not any(word in str(error) for word in ("dtype", "Long", "expected scalar")):
        return ""
    return (
        " The inputs are whole numbers, which stay whole: convert them by transforms under [data], "
        '{ name = "dtype", to = "float32" } or { name = "divide", by = 255 }.'
    )


def _is_embedding(module: nn.Module) -> bool:
    return isinstance(module, nn.Embedding | nn.EmbeddingBag)
