"""safetensors files: a header in JSON and numbers, no code by design."""

from __future__ import annotations

import os
from pathlib import Path

from torch import Tensor

from curvtool.errors import InputError
from curvtool.problem.checkpoint.content import Content
from curvtool.problem.libraries import library
from curvtool.problem.wording import first_line


def read_safetensors(path: Path) -> Content:
    """Read a file of safetensors.

    Args:
        path: the file, recognised as one.

    Returns:
        Its tensors.

    Raises:
        InputError: for a damaged file, or where the library is absent.
    """
    return Content(named_tensors(path), (path,))


def named_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of one file by name.

    Args:
        path: the file.

    Returns:
        Its tensors, read through safetensors' own checks: sizes and offsets of the header are
        held against the file before anything is read.

    Raises:
        InputError: for a damaged file, or where the library is absent.
    """
    safetensors = library("safetensors", "safetensors", str(path))
    try:
        with safetensors.safe_open(os.fspath(path), framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (
        safetensors.SafetensorError,
        OSError,
        ValueError,
        KeyError,
        AttributeError,
        RuntimeError,
    ) as error:
        raise InputError(
            f"{path}: expected a whole safetensors file; it is truncated or damaged "
            f"({first_line(error)}). Copy it again and compare the sizes."
        ) from error
