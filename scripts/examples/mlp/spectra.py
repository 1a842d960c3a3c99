"""Raman spectra of silicate glasses by i-MELT (package imelt): model and data.

The package's own module wants a library for spectra to be installed; its layers are rebuilt here
under the names that the checkpoint has.
"""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import torch
from torch import Tensor, nn

REAL = os.environ.get("CURVTOOL_REAL", "real")  # where scripts/fetch_real.py put the packages
DATA = "imelt/imelt/data/NKCMAS_Raman.hdf5"


class Raman(nn.Module):
    """A GELU network on 39 numbers of a composition, and the head for the Raman spectrum.

    `out_thermo` and `log_vars` belong to the other tasks that the network was trained on: they are
    in the checkpoint and never enter this loss.
    """

    def __init__(self, width: int, layers: int, channels: int) -> None:
        super().__init__()
        sizes = [39] + [width] * layers
        self.linears = nn.ModuleList(map(nn.Linear, sizes, sizes[1:]))
        self.out_thermo = nn.Linear(width, 34)
        self.out_raman = nn.Linear(width, channels)
        self.log_vars = nn.Parameter(torch.zeros(10))

    def forward(self, x: Tensor) -> Tensor:
        """Spectra of shape (N, channels) for compositions of shape (N, 39)."""
        for layer in self.linears:
            x = nn.functional.gelu(layer(x))
        out: Tensor = self.out_raman(x)
        return out


def build(width: int = 394, layers: int = 3, channels: int = 850) -> nn.Module:
    """The network of `l3_n394_*.pth`; the file's name gives layers and width of others."""
    return Raman(width, layers, channels)


def dataset(root: str = REAL, split: str = "train") -> tuple[Tensor, Tensor]:
    """Compositions and spectra; the file's numbers are scaled already."""
    with h5py.File(Path(root, DATA)) as file:
        x, y = (torch.from_numpy(file[f"{part}_raman_{split}"][:]) for part in "Xy")
    return x.float(), y.float()
