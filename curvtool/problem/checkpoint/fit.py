"""What of a file does not fit a model, as rows, and as a table with what to do about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from curvtool.problem.wording import listed

MOST_ROWS = 20
COUNTER = "num_batches_tracked"  # of BatchNorm; read in train mode with momentum None alone
# Key, what the model expects, what the file has.
Row = tuple[str, str, str]


def misfits(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> list[Row]:
    """Compare names, shapes and kinds.

    Args:
        expected: the model's tensors by name; tied names hold the same object.
        tensors: the file's.

    Returns:
        Rows of key, what the model expects, what the file has; empty where all fits.
    """
    rows = []
    present = {id(expected[key]) for key in tensors if key in expected}
    for key, wanted in expected.items():
        if key not in tensors:
            if not (key.endswith(COUNTER) or id(wanted) in present):
                rows.append((key, _shape(wanted), "missing"))
            continue
        got = tensors[key]
        # An unmade parameter (LazyLinear) takes any shape; a complex or integer tensor cannot
        # become a real parameter.
        fits = is_lazy(wanted) or wanted.shape == got.shape
        same_kind = wanted.is_floating_point() == got.is_floating_point()
        if not (fits and same_kind and _plain(got) and wanted.is_complex() == got.is_complex()):
            rows.append((
                key,
                _shape(wanted, typed=not same_kind),
                _shape(got, typed=not same_kind),
            ))
    rows += [(key, "nothing", _shape(got)) for key, got in tensors.items() if key not in expected]
    return rows


def only_old_names(rows: Iterable[Row]) -> bool:
    """Whether every misfit is a name, so that a rename inside the module might mend it."""
    kinds = [(wanted == "nothing", got == "missing") for _, wanted, got in rows]
    return all(any(pair) for pair in kinds) and {(True, False), (False, True)} <= set(kinds)


def odd(tensor: Tensor) -> bool:
    """Whether a tensor holds no plain floating-point numbers to differentiate by."""
    return not _plain(tensor) or not tensor.is_floating_point()


def table(
    head: str, rows: list[Row], tensors: Mapping[str, Tensor], *, key: str, others: str
) -> str:
    """The refusal of weights that do not fit.

    Args:
        head: its first line.
        rows: from `misfits`.
        tensors: the file's.
        key: their place in the file, dotted.
        others: a sentence on other weights in the file, or nothing.

    Returns:
        The lines, cut after some twenty rows, with a hint at the end.
    """
    header = ("key", "the model expects", "the file has")
    shown = [header, *rows[:MOST_ROWS]]
    wide = [max(len(row[column]) for row in shown) for column in range(2)]
    lines = [f"  {key:<{wide[0]}}  {wanted:<{wide[1]}}  {got}" for key, wanted, got in shown]
    if len(rows) > MOST_ROWS:
        lines.append(f"  ... and {len(rows) - MOST_ROWS} more")
    return "\n".join([head, *lines, _hint(rows, tensors, key) + others])


def _plain(tensor: Tensor) -> bool:
    # Floats of one byte and less come with scales that only their own kernels apply.
    tiny = tensor.is_floating_point() and tensor.dtype.itemsize < 2
    strided = tensor.layout is torch.strided and not tensor.is_quantized
    return strided and not tiny and not tensor.is_meta


def _shape(tensor: Tensor, *, typed: bool = False) -> str:
    if is_lazy(tensor):
        return "any shape"
    kind = str(tensor.dtype).removeprefix("torch.")
    layout = f"{str(tensor.layout).removeprefix('torch.')} " * (tensor.layout is not torch.strided)
    nothing = " without values" if tensor.is_meta else ""
    typed = typed or not _plain(tensor)
    return f"{tuple(tensor.shape)}" + (f" {layout}{kind}" if typed else "") + nothing


def _hint(rows: list[Row], tensors: Mapping[str, Tensor], key: str) -> str:
    strange = [
        f"{name} ({str(tensors[name].dtype).removeprefix('torch.')})"
        for name, wanted, got in rows
        # Kinds are shown where they are what does not fit.
        if wanted != "nothing" and not got.endswith(")") and name in tensors and odd(tensors[name])
    ]
    if strange:
        return (
            f"Quantised, integer or otherwise not plain floating-point numbers: "
            f"{listed(strange, most=6)}. The model expects weights that a loss can be "
            f"differentiated by: take the checkpoint from before it was quantised, or save "
            f"dequantised weights."
        )
    missing = [name for name, _, got in rows if got == "missing"]
    unexpected = [name for name, wanted, _ in rows if wanted == "nothing"]
    longer = Counter(u[: -len(m)] for m in missing for u in unexpected if u.endswith(f".{m}"))
    shorter = Counter(m[: -len(u)] for m in missing for u in unexpected if m.endswith(f".{u}"))
    prefix, count = max(longer.items(), key=lambda item: item[1], default=("", 0))
    if 2 * count >= len(missing) > 0:
        place = f"{key}.{prefix}".strip(".")
        return (
            f'Did you mean the names without "{prefix}"? {count} of the missing keys differ by '
            f"that prefix in the file; take them alone with --key {place}."
        )
    prefix, count = max(shorter.items(), key=lambda item: item[1], default=("", 0))
    if 2 * count >= len(missing) > 0:
        return (
            f'Did you mean the names with "{prefix}"? {count} of the missing keys differ by that '
            f"prefix in the model; build its part {prefix.rstrip('.')!r} alone, or save the "
            f'weights as {{"{prefix}" + k: v for k, v in weights.items()}}.'
        )
    if not missing and not unexpected:
        return (
            "The names agree, the shapes do not: set the arguments that the model was trained "
            "with (--model-kwargs, or kwargs under [model])."
        )
    if not missing and len(unexpected) == len(rows):
        return (
            "Everything that the model expects is there: --partial leaves the others aside and "
            "lists them in the report. Or build the model that has them."
        )
    return (
        "Check that --model and its arguments make the model that was trained; --partial loads "
        "what fits and lists the rest in the report."
    )
