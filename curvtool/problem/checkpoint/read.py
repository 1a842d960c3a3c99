"""Read a checkpoint: tensors and plain values, and nothing that would run code."""

from __future__ import annotations

import hashlib
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from curvtool.errors import InputError
from curvtool.problem.checkpoint.kind import Kind, kind_of_file, truncated
from curvtool.problem.checkpoint.pickled import code_named_by
from curvtool.problem.checkpoint.state_dict import find_state_dict
from curvtool.problem.wording import did_you_mean, first_line, kind_of, listed

OWN_KEY = "curvtool"
SCHEMA = "curvtool-checkpoint/1"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a checkpoint file holds.

    Attributes:
        path: the file.
        tensors: the weights by name, as in the file; they may be mapped from it rather than
            read, so copy what is to outlive the file.
        where: the place inside the file, for people.
        problem: the problem spec inside the file, unchecked, or None.
        notes: what was left aside.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    where: str
    problem: object
    notes: tuple[str, ...] = ()


def read_checkpoint(path: Path) -> Checkpoint:
    """Read names, shapes and the embedded spec; weights of zip files are mapped, not read.

    Always with `weights_only=True`, and nothing is ever tried without it.

    Args:
        path: a file of torch.save, whatever its name.

    Returns:
        Its content.

    Raises:
        InputError: for anything that is not a checkpoint with one state dict in it.
    """
    kind = kind_of_file(path)
    payload = _load(path, kind)
    own = None
    if isinstance(payload, Mapping) and OWN_KEY in payload:
        own = payload[OWN_KEY]
        payload = {key: value for key, value in payload.items() if key != OWN_KEY}
    problem = None if own is None else _own_problem(own, path)
    tensors, where, notes = find_state_dict(payload, path)
    return Checkpoint(path, tensors, where, problem, tuple(notes))


def file_sha256(path: Path) -> str:
    """SHA-256 of the file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _load(path: Path, kind: Kind) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TypedStorage, on legacy files
        try:
            # By its name alone torch.load takes a *.safetensors path for another format; only by
            # path can it map, and a path that is no UTF-8 it does not take.
            named = path.suffix != ".safetensors" and _is_utf8(str(path))
            if kind is Kind.ZIP and named:
                return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            with path.open("rb") as file:
                return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:
            raise _refusal(path, kind, error) from error


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refusal(path: Path, kind: Kind, error: Exception) -> InputError:
    if isinstance(error, pickle.UnpicklingError):
        names = code_named_by(path, kind)
        if names:
            return InputError(
                f"{path}: expected tensors and plain values; the file asks to import code: "
                f"{listed(names)}. Nothing of it was executed. Where you trust the file, load it "
                f"in the program that wrote it, and save the weights alone: "
                f'torch.save(model.state_dict(), "weights.pt").'
            )
        if "Unsupported operand" in str(error):
            return InputError(
                f"{path}: expected the pickle protocol that torch.save writes by itself (2); the "
                f"file was saved with another pickle_protocol, which is not read without running "
                f"code. Save the weights again without that argument: "
                f'torch.save(model.state_dict(), "weights.pt").'
            )
    if isinstance(error, EOFError) or "EOF" in str(error) or "failed finding" in str(error):
        return truncated(path)
    return InputError(
        f"{path}: expected a checkpoint written by torch.save; its contents are damaged or not "
        f"plain tensors ({_reason(error)}). Copy the file again, or "
        f'save the weights with torch.save(model.state_dict(), "weights.pt").'
    )


def _reason(error: Exception) -> str:
    """What torch says, without its advice to load the file unprotected."""
    _, found, said = str(error).partition("WeightsUnpickler error:")
    return first_line(ValueError(said) if found else error)


def _own_problem(own: object, path: Path) -> object:
    if not isinstance(own, Mapping) or "schema" not in own:
        raise InputError(
            f'{path}: expected "{OWN_KEY}" in the checkpoint to hold a schema and a problem; got '
            f"{kind_of(own)}. Write such files with curvtool.save_checkpoint, or rename that entry."
        )
    if own["schema"] != SCHEMA:
        raise InputError(
            f'{path}: expected the schema "{SCHEMA}"; got {own["schema"]!r}. Update curvtool if '
            f"the file was written by a later version."
        )
    unknown = [str(key) for key in own if key not in {"schema", "problem"}]
    if unknown:
        raise InputError(
            f'{path}: expected "schema" and "problem" under "{OWN_KEY}"; got "{unknown[0]}".'
            f"{did_you_mean(unknown[0], ['schema', 'problem'])} Write such files with "
            f"curvtool.save_checkpoint."
        )
    return own.get("problem", {})
