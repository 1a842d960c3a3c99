"""Put the tensors of a checkpoint into a module: all of them, or none and a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from curvtool.errors import InputError
from curvtool.problem.checkpoint.choose import choose, others_sentence
from curvtool.problem.checkpoint.content import Candidate, Checkpoint
from curvtool.problem.checkpoint.fit import COUNTER, MOST_ROWS, Row, misfits, only_old_names, table
from curvtool.problem.checkpoint.names import best_variant
from curvtool.problem.wording import first_line, listed


@dataclass(frozen=True, eq=False)
class Loaded:
    """What went into the module.

    Attributes:
        tensors: by the model's names, as in the file.
        notes: prefixes taken off, places chosen, mixed precision met, what did not fit.
    """

    tensors: Mapping[str, Tensor]
    notes: list[str]


def load_weights(
    module: nn.Module, checkpoint: Checkpoint, model: str, *, partial: bool = False
) -> Loaded:
    """Copy the checkpoint's tensors into `module`, in the floating-point type of the file.

    Args:
        module: on the CPU; its parameters take the file's floating-point type, the widest of
            several, so that nothing is rounded here.
        checkpoint: what was read.
        model: how the spec names the model, for messages.
        partial: whether to load what fits, and to note what does not.

    Returns:
        The tensors that were loaded, and notes.

    Raises:
        InputError: for missing, unexpected or wrongly shaped keys, for values that are not
            finite, for quantised or sparse tensors, or where tied names hold different values.
    """
    _require_values(module, model)
    expected, tensors, rows, sentence, notes = _matched(module, checkpoint, model, partial=partial)
    _require_finite(module, tensors, checkpoint)
    _require_tied(expected, tensors, checkpoint)
    notes += _take_dtypes(expected, tensors)
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
        raise InputError(sentence) from error
    return Loaded(tensors, notes)


def fitting_weights(module: nn.Module, checkpoint: Checkpoint, model: str) -> Loaded:
    """The checkpoint's tensors that belong into a module, held against it and not copied.

    For modules whose parameters have no values, and take theirs piece by piece.

    Args:
        module: its parameters may be on the meta device; its buffers are filled here.
        checkpoint: what was read; tensors that are mapped from a file stay so.
        model: how the spec names the model, for messages.

    Returns:
        The tensors by the model's names, tied ones under each, and notes. Whether parameters are
        finite is for whoever reads them to see.

    Raises:
        InputError: for missing, unexpected or wrongly shaped keys, names that only the module's
            own code can translate, buffers that are not finite, or tied names that differ.
    """
    expected, tensors, rows, sentence, notes = _matched(module, checkpoint, model, partial=False)
    if rows:
        raise InputError(sentence)
    buffers = dict(module.named_buffers())
    _require_finite(module, {k: t for k, t in tensors.items() if k in buffers}, checkpoint)
    for name, buffer in buffers.items():
        if name in tensors:
            buffer.data = tensors[name].clone()
    _require_tied(expected, tensors, checkpoint)
    notes += _mixed({key: t for key, t in tensors.items() if key in expected})
    return Loaded(_with_tied(expected, tensors), notes)


_Matched = tuple[dict[str, Tensor], dict[str, Tensor], list[Row], str, list[str]]


def _matched(module: nn.Module, checkpoint: Checkpoint, model: str, *, partial: bool) -> _Matched:
    """What the model expects, what of the file is for it, what does not fit and how to say that."""
    expected = {k: v for k, v in module.state_dict(keep_vars=True).items() if isinstance(v, Tensor)}
    candidate, notes = choose(checkpoint, expected)
    notes = [*checkpoint.notes, *candidate.notes, *notes]
    taken, tensors = best_variant(expected, candidate.tensors)
    if taken:
        notes.append(f'the prefix "{taken}" was taken off all names in the checkpoint')
    tensors = _without_made(module, expected, tensors, notes)
    rows = misfits(expected, tensors)
    sentence = _sentence(rows, expected, tensors, checkpoint, candidate, model) if rows else ""
    if rows and partial and not (only_old_names(rows) and _renames(module, tensors)):
        unfit = {key for key, _, _ in rows}
        tensors = {key: tensor for key, tensor in tensors.items() if key not in unfit}
        if not any(key in expected for key in tensors):
            raise InputError(sentence)
        notes.append(_partly(rows, tensors))
        rows = []
    if rows and not only_old_names(rows):
        raise InputError(sentence)
    return expected, tensors, rows, sentence, notes


def _sentence(
    rows: list[Row],
    expected: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    checkpoint: Checkpoint,
    candidate: Candidate,
    model: str,
) -> str:
    head = (
        f"{checkpoint.path}: expected the {len(expected)} tensors of {model}; the {len(tensors)} "
        f"under {candidate.where} do not fit:"
    )
    others = others_sentence(checkpoint, candidate)
    return table(head, rows, tensors, key=candidate.key, others=others)


def _without_made(
    module: nn.Module,
    expected: Mapping[str, Tensor],
    tensors: dict[str, Tensor],
    notes: list[str],
) -> dict[str, Tensor]:
    """Leave aside what the model makes by itself and does not save, where the file agrees."""
    made = dict(module.named_buffers())
    equal = [
        key
        for key, tensor in tensors.items()
        if key not in expected
        and key in made
        and made[key].shape == tensor.shape
        and made[key].dtype == tensor.dtype
        and torch.equal(made[key], tensor)
    ]
    if equal:
        notes.append(f"buffers that the model makes itself are the file's: {listed(equal, most=4)}")
    return {key: tensor for key, tensor in tensors.items() if key not in equal}


def _renames(module: nn.Module, tensors: Mapping[str, Tensor]) -> bool:
    """Whether the module takes the names of the file, by renaming them as it loads."""
    try:
        module.load_state_dict(dict(tensors), strict=True)
    except RuntimeError:
        return False
    return True


def _partly(rows: list[Row], tensors: Mapping[str, Tensor]) -> str:
    without = [key for key, wanted, _ in rows if wanted != "nothing"]
    own = f"; {len(without)} keep the values that the model was built with" if without else ""
    cells = [
        f"{key} (not in the model)"
        if wanted == "nothing"
        else f"{key} (expected {wanted}, {'missing in the file' if got == 'missing' else got})"
        for key, wanted, got in rows
    ]
    return (
        f"--partial: {len(tensors)} tensors were loaded{own}. Not loaded: "
        f"{listed(cells, most=MOST_ROWS)}"
    )


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
        elif key not in filled and key.endswith(COUNTER):
            filled[key] = wanted
    return filled


def _take_dtypes(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> list[str]:
    """Give what will be loaded the file's floating-point type, the widest where it has several."""
    taken = {
        key: got
        for key, got in tensors.items()
        if key in expected and (got.is_floating_point() or got.is_complex())
    }
    real = [got.dtype for got in taken.values() if got.is_floating_point()]
    widest = reduce(torch.promote_types, real) if real else None
    for key, got in taken.items():
        wanted = expected[key]
        dtype = widest if got.is_floating_point() and widest else got.dtype
        if not is_lazy(wanted) and dtype != wanted.dtype:
            # In place, so that ties and references to the parameter survive.
            wanted.data = wanted.data.to(dtype)
    return _mixed(taken)


def _mixed(taken: Mapping[str, Tensor]) -> list[str]:
    """A note where the numbers are of several floating-point types."""
    counts = Counter(t.dtype for t in taken.values() if t.is_floating_point()).most_common()
    if len(counts) < 2:
        return []
    names = {str(dtype).removeprefix("torch."): dtype for dtype, _ in counts}
    kinds = [
        f"{count} {name}" + (f" ({_first(taken, names[name])})" if count == 1 else "")
        for name, (_, count) in zip(names, counts, strict=True)
    ]
    return [f"the file mixes {', '.join(kinds)}: all are computed in the widest"]


def _first(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> str:
    return next(key for key, tensor in tensors.items() if tensor.dtype == dtype)
