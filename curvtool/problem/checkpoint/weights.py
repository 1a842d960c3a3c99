"""Put the tensors of a checkpoint into a module: all of them, or none and a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from curvtool.errors import InputError
from curvtool.problem.checkpoint.read import Checkpoint
from curvtool.problem.checkpoint.state_dict import unprefixed
from curvtool.problem.wording import first_line, listed

_MOST_ROWS = 20
_COUNTER = "num_batches_tracked"  # of BatchNorm; read in train mode with momentum None alone


def load_weights(module: nn.Module, checkpoint: Checkpoint, model: str) -> list[str]:
    """Copy the checkpoint's tensors into `module`, in the floating-point type of the file.

    Args:
        module: on the CPU; its parameters take the file's floating-point type, so that nothing
            is rounded here.
        checkpoint: what was read.
        model: how the spec names the model, for messages.

    Returns:
        Notes: prefixes taken off, half precision met.

    Raises:
        InputError: for missing, unexpected or wrongly shaped keys, for values that are not
            finite, for quantised or sparse tensors, or where tied names hold different values.
    """
    _require_values(module, model)
    expected = {k: v for k, v in module.state_dict(keep_vars=True).items() if isinstance(v, Tensor)}
    taken, tensors = _best_variant(expected, checkpoint.tensors)
    rows = _misfits(expected, tensors)
    if rows and not _only_old_names(rows):
        raise InputError(_table(rows, expected, tensors, checkpoint, model))
    _require_finite(module, tensors, checkpoint)
    _require_tied(expected, tensors, checkpoint)
    _take_dtypes(expected, tensors)
    try:
        module.load_state_dict(_with_tied(expected, tensors), strict=bool(rows))
    except RuntimeError as error:
        # A module may know older names for its tensors and rename them; only then is `rows` not
        # yet the last word here.
        if not rows:
            raise InputError(
                f"{checkpoint.path}: expected the weights to fit {model}; the model refused them: "
                f"{first_line(error)}. Check that build makes the model that was trained."
            ) from error
        raise InputError(_table(rows, expected, tensors, checkpoint, model)) from error
    notes = list(checkpoint.notes)
    if taken:
        notes.append(f'the prefix "{taken}" was taken off all names in the checkpoint')
    return notes


def _best_variant(
    expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
) -> tuple[str, dict[str, Tensor]]:
    variants = list(unprefixed(tensors)) or [("", {})]
    return max(variants, key=lambda variant: len(expected.keys() & variant[1].keys()))


def _misfits(
    expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
) -> list[tuple[str, str, str]]:
    """Rows of key, what the model expects, what the file has; empty where all fits."""
    rows = []
    present = {id(expected[key]) for key in tensors if key in expected}
    for key, wanted in expected.items():
        if key not in tensors:
            if not (key.endswith(_COUNTER) or id(wanted) in present):
                rows.append((key, _shape(wanted), "missing"))
            continue
        got = tensors[key]
        # An unmade parameter (LazyLinear) takes any shape; a complex or integer tensor cannot
        # become a real parameter.
        fits = is_lazy(wanted) or wanted.shape == got.shape
        same_kind = wanted.is_floating_point() == got.is_floating_point()
        plain = got.layout is torch.strided and not got.is_quantized
        if not (fits and same_kind and plain and wanted.is_complex() == got.is_complex()):
            rows.append((
                key,
                _shape(wanted, typed=not same_kind),
                _shape(got, typed=not same_kind),
            ))
    rows += [(key, "nothing", _shape(got)) for key, got in tensors.items() if key not in expected]
    return rows


def _only_old_names(rows: Iterable[tuple[str, str, str]]) -> bool:
    """Whether every misfit is a name, so that a rename inside the module might mend it."""
    kinds = [(wanted == "nothing", got == "missing") for _, wanted, got in rows]
    return all(any(pair) for pair in kinds) and {(True, False), (False, True)} <= set(kinds)


def _require_values(module: nn.Module, model: str) -> None:
    for name, parameter in module.named_parameters():
        if parameter.is_meta:
            raise InputError(
                f"{model}: expected a model with its parameters on the CPU; {name} is on the meta "
                f"device and holds no values. Build the model without torch.device('meta')."
            )


def _require_finite(
    module: nn.Module, tensors: Mapping[str, Tensor], checkpoint: Checkpoint
) -> None:
    """Refuse NaN anywhere and infinity in parameters; a mask among the buffers may hold -inf."""
    buffers = {name for name, _ in module.named_buffers()}
    bad = []
    for name, tensor in tensors.items():
        if not (tensor.is_floating_point() or tensor.is_complex()):
            continue
        nan = int(tensor.isnan().sum())
        infinite = 0 if name in buffers else int(tensor.isinf().sum())
        if nan or infinite:
            counts = [f"{nan:,} NaN"] * (nan > 0) + [f"{infinite:,} infinite"] * (infinite > 0)
            bad.append(f"{name} ({' and '.join(counts)} of {tensor.numel():,})")
    if bad:
        raise InputError(
            f"{checkpoint.path}: expected finite weights; got NaN or infinity in {len(bad)} of "
            f"{len(tensors)} tensors: {listed(bad, most=8)}. The training diverged; take an "
            f"earlier checkpoint."
        )


def _require_tied(
    expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], checkpoint: Checkpoint
) -> None:
    first: dict[int, str] = {}
    for key, wanted in expected.items():
        if key not in tensors:
            continue
        other = first.setdefault(id(wanted), key)
        if other != key and not torch.equal(tensors[other], tensors[key]):
            raise InputError(
                f"{checkpoint.path}: expected {other} and {key} to be equal, since the model ties "
                f"them; they differ in the file. Build the model with untied weights."
            )


def _with_tied(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, with what may be absent filled in: tied names, counters of BatchNorm."""
    by_identity = {id(expected[key]): value for key, value in tensors.items() if key in expected}
    filled = dict(tensors)
    for key, wanted in expected.items():
        if key not in filled and id(wanted) in by_identity:
            filled[key] = by_identity[id(wanted)]
        elif key not in filled and key.endswith(_COUNTER):
            filled[key] = wanted
    return filled


def _take_dtypes(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    for key, wanted in expected.items():
        got = tensors.get(key)
        if got is not None and not is_lazy(wanted) and got.dtype != wanted.dtype:
            # In place, so that ties and references to the parameter survive.
            wanted.data = wanted.data.to(got.dtype)


def _shape(tensor: Tensor, *, typed: bool = False) -> str:
    if is_lazy(tensor):
        return "any shape"
    kind = str(tensor.dtype).removeprefix("torch.")
    odd = tensor.is_quantized or tensor.layout is not torch.strided
    layout = f"{str(tensor.layout).removeprefix('torch.')} " * (tensor.layout is not torch.strided)
    return f"{tuple(tensor.shape)}" + (f" {layout}{kind}" if typed or odd else "")


def _table(
    rows: list[tuple[str, str, str]],
    expected: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    checkpoint: Checkpoint,
    model: str,
) -> str:
    header = ("key", "the model expects", "the file has")
    shown = [header, *rows[:_MOST_ROWS]]
    wide = [max(len(row[column]) for row in shown) for column in range(2)]
    lines = [f"  {key:<{wide[0]}}  {wanted:<{wide[1]}}  {got}" for key, wanted, got in shown]
    if len(rows) > _MOST_ROWS:
        lines.append(f"  ... and {len(rows) - _MOST_ROWS} more")
    return "\n".join([
        f"{checkpoint.path}: expected the {len(expected)} tensors of {model}; the {len(tensors)} "
        f"under {checkpoint.where} do not fit:",
        *lines,
        _hint(rows),
    ])


def _hint(rows: list[tuple[str, str, str]]) -> str:
    missing = [key for key, _, got in rows if got == "missing"]
    unexpected = [key for key, wanted, _ in rows if wanted == "nothing"]
    longer = Counter(u[: -len(m)] for m in missing for u in unexpected if u.endswith(f".{m}"))
    shorter = Counter(m[: -len(u)] for m in missing for u in unexpected if m.endswith(f".{u}"))
    for prefixes, change in (
        (longer, 'k.removeprefix("{0}"): v for k, v in weights.items() if k.startswith("{0}")'),
        (shorter, '"{0}" + k: v for k, v in weights.items()'),
    ):
        prefix, count = max(prefixes.items(), key=lambda item: item[1], default=("", 0))
        if 2 * count >= len(missing) > 0:
            where = "in the file" if prefixes is longer else "in the model"
            return (
                f'Did you mean the names without "{prefix}"? {count} of the missing keys differ by '
                f"that prefix {where}; save the weights as {{{change.format(prefix)}}}."
            )
    if not missing and not unexpected:
        return (
            "The names agree, the shapes do not: set the arguments that the model was trained "
            "with (--model-kwargs, or kwargs under [model])."
        )
    return "Check that --model and its arguments make the model that was trained."
