"""Files of torch.save: tensors and plain values, with `weights_only=True` and nothing without."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import torch

from curvtool.errors import InputError
from curvtool.problem.checkpoint.content import Content
from curvtool.problem.checkpoint.formats.lightning import is_lightning, read_tensors_only
from curvtool.problem.checkpoint.formats.nesting import require_shallow
from curvtool.problem.checkpoint.kind import Kind, truncated
from curvtool.problem.checkpoint.pickled import code_named_by, said_by_torch
from curvtool.problem.wording import listed


def read_torch_saved(path: Path, kind: Kind) -> Content:
    """Read a file of torch.save; weights of zip files are mapped, not read.

    A checkpoint of PyTorch Lightning whose hyper-parameters are objects is read for its tensors
    alone, with inert marks in the places of all else.

    Args:
        path: the file.
        kind: ZIP or LEGACY.

    Returns:
        Its content.

    Raises:
        InputError: for a file that is damaged or that asks for code.
    """  # noqa: DOC501  # _refusal is not itself an exception
    require_shallow(path, kind)
    try:
        return Content(_load(path, kind), (path,))
    except Exception as error:
        names = code_named_by(path, kind) if isinstance(error, pickle.UnpicklingError) else []
        if names and kind is Kind.ZIP and is_lightning(path):
            note = (
                f"hyper-parameters and states of Lightning that need code were left aside, and "
                f"nothing of them was run: {listed(names, most=4)}"
            )
            return Content(read_tensors_only(path), (path,), (note,))
        raise _refusal(path, error, names) from error


def _load(path: Path, kind: Kind) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TypedStorage, on legacy files
        # By its name alone torch.load takes a *.safetensors path for another format; only by
        # path can it map, and a path that is no UTF-8 it does not take.
        named = path.suffix != ".safetensors" and _is_utf8(str(path))
        if kind is Kind.ZIP and named:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        with path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refusal(path: Path, error: Exception, names: list[str]) -> InputError:
    if names:
        return InputError(
            f"{path}: expected tensors and plain values; the file asks to import code: "
            f"{listed(names)}. Nothing of it was executed. Where you trust the file, load it "
            f"in the program that wrote it, and save the weights alone: "
            f'torch.save(model.state_dict(), "weights.pt").'
        )
    if isinstance(error, pickle.UnpicklingError) and "Unsupported operand" in str(error):
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
        f"plain tensors ({said_by_torch(error)}). Copy the file again, or "
        f'save the weights with torch.save(model.state_dict(), "weights.pt").'
    )
