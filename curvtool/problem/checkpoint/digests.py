"""What identifies a checkpoint: its files' bytes, and its tensors whatever the format."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor


def files_sha256(files: Sequence[Path]) -> str:
    """SHA-256 of a checkpoint's files.

    Args:
        files: those that were read, in order.

    Returns:
        The digest of the one file's bytes, or of the hexadecimal digests of several in turn.
    """
    digests = [file_sha256(path) for path in files]
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of the file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of named tensors: equal for equal weights, in whatever format they were.

    Args:
        tensors: strided ones with values, on the CPU.

    Returns:
        The digest of a line "name dtype shape" and the row-major little-endian bytes of each, in
        the order of their names. Reads every byte once; memory of the largest tensor.
    """
    whole = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().resolve_conj().resolve_neg()
        kind = str(tensor.dtype).removeprefix("torch.")
        whole.update(f"{name}\0{kind}\0{tuple(tensor.shape)}\n".encode(errors="surrogatepass"))
        if tensor.numel():
            whole.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return whole.hexdigest()
