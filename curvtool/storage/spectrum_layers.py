"""The kind `spectrum-layers`: eigenpairs of every layer's diagonal block.

A kind of its own: who asks a file for the pairs of the whole H is told that it holds none, rather
than that something is missing in it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from curvtool.results import BlockSpectra, SpectrumBlocksRun
from curvtool.storage import axes
from curvtool.storage.atomic import replacing
from curvtool.storage.file import opened, read_header, require_kind
from curvtool.storage.layers import add_layers, read_layers
from curvtool.storage.pairs import read_pairs, require_pairs, write_pairs
from curvtool.storage.solve import read_solve, write_solve

KIND = "spectrum-layers"


def write_spectrum_layers(path: Path, run: SpectrumBlocksRun) -> None:
    """Write the spectra of all blocks, whole or not at all.

    Args:
        path: file to create or replace. Its folder must exist.
        run: what to write.

    Raises:
        InputError: where the file cannot be written.
        TypeError: where `config` or `environment` hold what JSON cannot.
        ValueError: where arrays of the run have shapes that do not fit.
    """
    blocks = run.blocks
    if not len(blocks.names) == len(blocks.sizes) == len(blocks.pairs):
        raise ValueError(
            "write_spectrum_layers needs a name, a size and pairs for each block, not "
            f"{len(blocks.names)}, {len(blocks.sizes)} and {len(blocks.pairs)}"
        )
    for pairs in blocks.pairs:
        require_pairs(pairs, "write_spectrum_layers")
    with replacing(path) as file:
        write_solve(file, run, kind=KIND, outcome=blocks.outcome, hvps=blocks.hvps)
        layer, groups = add_layers(file, blocks.names)
        sizes = np.array(blocks.sizes, dtype=np.int64)
        axes.add_series(file["layers"], "size", sizes, [layer], long_name="parameters of the layer")
        for group, pairs in zip(groups, blocks.pairs, strict=True):
            write_pairs(group, pairs)


def read_spectrum_layers(path: Path, *, eigenvectors: bool = True) -> SpectrumBlocksRun:
    """Read the spectra of all blocks.

    Args:
        path: of the run file.
        eigenvectors: whether to read them where the file has them.

    Returns:
        The run.

    Raises:
        InputError: for no such file, a foreign or damaged one, a newer schema, or another kind.
    """
    with opened(path) as file:
        header = read_header(file)
        require_kind(path, header.kind, KIND)
        found = read_layers(file)
        blocks = BlockSpectra(
            names=tuple(name for name, _ in found),
            sizes=tuple(int(size) for size in file["layers"]["size"]),
            pairs=tuple(read_pairs(group, eigenvectors=eigenvectors) for _, group in found),
        )
        return SpectrumBlocksRun(blocks=blocks, **read_solve(file, header))
