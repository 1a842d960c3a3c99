"""Room for the vectors of a Krylov basis: beside the operator, in the host's memory, or on a disk.

Letters: m rows, p numbers of this process's share of a vector.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from curvtool.errors import InputError

BasisDevice = Literal["auto", "cpu", "disk"]
BasisDType = Literal["auto", "bfloat16"]
CPU = torch.device("cpu")


@final
@dataclass(frozen=True)
class BasisPlace:
    """Where the basis lies, and in which type.

    Attributes:
        device: `auto` beside the operator, `cpu` in the host's memory, `disk` in a file of the
            folder for temporary files (TMPDIR), which is gone with the process whatever ends it.
        dtype: `auto` that of the operator; `bfloat16` takes half of float32's room, and rounds
            every vector by 2^-9: orthogonality and residuals are then good to some 1e-2 of
            |theta_1|, which the certificate measures and the printed errors say.
    """

    device: BasisDevice = "auto"
    dtype: BasisDType = "auto"

    def itemsize(self, dtype: torch.dtype) -> int:
        """Bytes of a number of the basis of an operator of that type."""
        return 2 if self.dtype == "bfloat16" else dtype.itemsize

    def rows(self, m: int, p: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Room for m rows of p numbers; what is in it has no meaning.

        Args:
            m: rows.
            p: numbers of each.
            dtype: of the operator.
            device: of the operator.

        Returns:
            Shape (m, p).

        Raises:
            InputError: where the disk has no room.
        """
        stored = torch.bfloat16 if self.dtype == "bfloat16" else dtype
        if self.device == "disk":
            return _on_disk(m, p, stored)
        return torch.empty((m, p), dtype=stored, device=CPU if self.device == "cpu" else device)


def _on_disk(m: int, p: int, dtype: torch.dtype) -> Tensor:
    length = m * p * dtype.itemsize
    handle, path = tempfile.mkstemp(prefix="curvtool-basis-")
    try:
        # All of it at once: a write into a mapping that the disk has no room for ends the process.
        os.posix_fallocate(handle, 0, max(1, length))
        flat = torch.from_file(path, shared=True, size=m * p, dtype=dtype)
    except OSError as error:
        raise InputError(
            f"--basis-device disk: the basis takes {length:,} bytes in {tempfile.gettempdir()}, "
            f"and the system says {error.strerror!r}. Make room, or set TMPDIR to another folder."
        ) from error
    finally:
        os.close(handle)
        os.unlink(path)  # the mapping keeps it, and nothing is left when the process ends
    return flat.view(m, p)
