"""Which of the tensors in a file are the weights: as the user says, or the only ones that fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from curvtool.errors import InputError
from curvtool.problem.checkpoint.candidates import WRAPPERS
from curvtool.problem.checkpoint.content import Candidate, Checkpoint
from curvtool.problem.checkpoint.fit import Row, misfits, only_old_names
from curvtool.problem.checkpoint.names import best_variant
from curvtool.problem.wording import did_you_mean, listed

TOP = "."  # what --key takes for the top level


def narrowed(checkpoint: Checkpoint, *, key: str | None, average: bool) -> Checkpoint:
    """Keep the candidates that the user means.

    Args:
        checkpoint: as read.
        key: as `--key` gives it: the path of a dict in the file, or beyond it a prefix of names.
        average: whether a running average of the weights is asked for (`--weights ema`).

    Returns:
        The checkpoint with one candidate at least.

    Raises:
        InputError: where there is no such place, or no average.
    """
    if key is not None:
        return replace(checkpoint, candidates=(_at(checkpoint, key),))
    averages = tuple(c for c in checkpoint.candidates if c.is_average)
    others = tuple(c for c in checkpoint.candidates if not c.is_average)
    if average and not averages:
        raise InputError(
            f"{checkpoint.path}: expected an average of the weights for --weights ema, under a "
            f'name such as "ema" or "model_ema"; the file has none: {_places(others)}. Name '
            f"its place with --key, or leave --weights out."
        )
    if average:
        return replace(checkpoint, candidates=averages)
    if others and averages:
        note = f"an average of the weights is in the file too ({_places(averages)}): --weights ema"
        return replace(checkpoint, candidates=others, notes=(*checkpoint.notes, note))
    return checkpoint


def choose(checkpoint: Checkpoint, expected: Mapping[str, Tensor]) -> tuple[Candidate, list[str]]:
    """Choose the candidate that fits the model.

    Args:
        checkpoint: with its candidates.
        expected: the model's tensors by name.

    Returns:
        The only one that fits, or the only one, or else the one that comes nearest; and a note
        where it was not to be expected at its place.

    Raises:
        InputError: where several fit and differ.
    """
    if len(checkpoint.candidates) == 1:
        return checkpoint.candidates[0], []
    rated = [(candidate, *_rated(candidate, expected)) for candidate in checkpoint.candidates]
    fitting = [candidate for candidate, rows, _ in rated if not rows]
    fitting = fitting or [candidate for candidate, rows, _ in rated if _may_be_renamed(rows)]
    different = [c for c in fitting[1:] if not _equal(c.tensors, fitting[0].tensors)]
    if different:
        raise InputError(
            f"{checkpoint.path}: expected one state dict that fits the model; {len(fitting)} fit "
            f"and differ: {_places(fitting)}. Name the one you mean: --key "
            f"{fitting[0].key or TOP}"
        )
    if not fitting:
        return max(rated, key=lambda item: item[2])[0], []
    found = fitting[0]
    if found.key in {"", *WRAPPERS}:
        return found, []
    note = f"of the dicts of tensors in the file only {found.where} fits the model, and was taken"
    return found, [note]


def others_sentence(checkpoint: Checkpoint, candidate: Candidate) -> str:
    """' Other tensors are in the file ...', or nothing where there are none."""
    others = [c for c in checkpoint.candidates if c is not candidate]
    if not others:
        return ""
    return f" Other tensors in the file, which --key takes and fit no better: {_places(others)}."


def _at(checkpoint: Checkpoint, key: str) -> Candidate:
    wanted = "" if key == TOP else key
    for candidate in checkpoint.candidates:
        if candidate.key == wanted:
            return candidate
    # Beyond the place of a dict, the rest of the path is a prefix of its names.
    for candidate in sorted(checkpoint.candidates, key=lambda c: -len(c.key)):
        outer = f"{candidate.key}." if candidate.key else ""
        if wanted.startswith(outer):
            prefix = wanted.removeprefix(outer) + "."
            inside = {
                name.removeprefix(prefix): tensor
                for name, tensor in candidate.tensors.items()
                if name.startswith(prefix)
            }
            if inside:
                left = len(candidate.tensors) - len(inside)
                note = f"{left} tensors beside --key {key} were left aside"
                return Candidate(key, inside, candidate.is_average, (note,) if left else ())
    raise _no_such_key(checkpoint.path, key, checkpoint.candidates)


def _no_such_key(path: Path, key: str, candidates: tuple[Candidate, ...]) -> InputError:
    names = [c.key or TOP for c in candidates]
    parts = {f"{c.key}.{n.partition('.')[0]}".lstrip(".") for c in candidates for n in c.tensors}
    return InputError(
        f"{path}: expected tensors at --key {key!r}; there are none."
        f"{did_you_mean(key, [*names, *parts])} The file has {_places(candidates)}."
    )


def _places(candidates: tuple[Candidate, ...] | list[Candidate]) -> str:
    return listed(
        f"{c.key} ({len(c.tensors)} tensors)"
        if c.key
        else f"{TOP} (the top level, {len(c.tensors)} tensors)"
        for c in candidates
    )


def _rated(candidate: Candidate, expected: Mapping[str, Tensor]) -> tuple[list[Row], int]:
    """The misfits, and how many tensors fit."""
    _, tensors = best_variant(expected, candidate.tensors)
    rows = misfits(expected, tensors)
    unfit = {key for key, _, _ in rows}
    return rows, len([key for key in tensors if key in expected and key not in unfit])


def _may_be_renamed(rows: list[Row]) -> bool:
    """Whether the module might rename as many names as it misses."""
    missing = sum(got == "missing" for _, _, got in rows)
    return only_old_names(rows) and 2 * missing == len(rows)


def _equal(some: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> bool:
    return some.keys() == others.keys() and all(
        some[key].dtype == others[key].dtype and torch.equal(some[key], others[key]) for key in some
    )
