"""The package's one source of random vectors: any part of a vector, drawn without the rest.

The numbers of a vector are determined by (seed, purpose, index) and the position in it, and by
nothing else: not by the number of ranks, each of which draws its own part alone, not by the device,
the threads or the order of the draws, nor by the versions of NumPy and torch. Underneath is
Philox-4x64-10, a counter-based generator whose words NumPy promises never to change: its key is a
digest of (seed, purpose, index), its counter is block and place in the block, 2^20 numbers a block.
The digest keeps the streams apart from each other, and from those that torch and NumPy make of the
same seed, as of the `torch.manual_seed(0)` that drew a model's weights.

Letters: P numbers of a whole vector, p of the part that is drawn.

References:
    Salmon, Moraes, Dror, Shaw (2011), Parallel random numbers: as easy as 1, 2, 3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curvtool.random_vectors.normals import AT_ONCE, Normals
from curvtool.random_vectors.purposes import Purpose

Kind = Literal["rademacher", "gaussian"]

# Stands in every key. Whoever changes what is drawn, of any purpose, changes it and
# `storage.state.SCHEMA`, since no half-done run may go on with other numbers than it began with.
FORMAT = 2
BLOCK = 2**20
# Philox gives four words of 64 bits for each value of its counter.
_WORDS_A_COUNT = 4
_CPU = torch.device("cpu")

# Writes numbers of one block, from a place in it on, to a vector on the host.
_Fill = Callable[[int, int, Tensor], None]


def normal(
    purpose: Purpose,
    *index: int,
    seed: int,
    size: int,
    part: slice | None = None,
    dtype: torch.dtype = torch.float64,
    device: torch.device = _CPU,
) -> Tensor:
    """Independent standard normal numbers, the same on every machine to the bit.

    Args:
        purpose: what they are for.
        index: which draw of that purpose.
        seed: the run's seed, any int.
        size: P.
        part: of the whole vector, consecutive; all of it where it is left out.
        dtype: of the vector. Of one stream float64 and float32 have the same numbers to rounding;
            others are rounded from float32.
        device: where they go; they are made on the CPU, by torch's number of threads.

    Returns:
        Shape (p,). Memory beside it is a block for each thread at most.
    """
    key = _key("normal", purpose, index, seed)
    double = dtype == torch.float64

    def filler(longest: int) -> _Fill:
        most = min(AT_ONCE, longest // 2 + 1)
        made = Normals(double=double, most=most)
        spare = np.empty(2 * most, made.dtype)

        def fill(block: int, first: int, out: Tensor) -> None:
            numbers, last = out.numpy(), first + len(out)
            # A word makes two numbers: where the part cuts a pair, one of them is left out.
            for begin in range(first - first % 2, last, 2 * most):
                end = min(begin + 2 * most, last + last % 2)
                words = _words(key, block, begin // 2, end // 2)
                if begin >= first and end <= last:
                    made(words, numbers[begin - first : end - first])
                else:
                    made(words, spare[: end - begin])
                    low, high = max(begin, first), min(end, last)
                    numbers[low - first : high - first] = spare[low - begin : high - begin]

        return fill

    kind = torch.float64 if double else torch.float32
    return _drawn(filler, size, part, kind, dtype, device)


def signs(
    purpose: Purpose,
    *index: int,
    seed: int,
    size: int,
    part: slice | None = None,
    dtype: torch.dtype = torch.float64,
    device: torch.device = _CPU,
) -> Tensor:
    """Independent numbers that are +1 or -1, each with probability 1/2.

    Args:
        purpose: what they are for.
        index: which draw of that purpose.
        seed: the run's seed, any int.
        size: P.
        part: of the whole vector, consecutive; all of it where it is left out.
        dtype: of the vector.
        device: where they go; they are made on the CPU, by torch's number of threads.

    Returns:
        Shape (p,). Memory beside it is two bytes for each number of a block and thread.
    """
    key = _key("signs", purpose, index, seed)

    def fill(block: int, first: int, out: Tensor) -> None:
        begin, end = first // 64, -(-(first + len(out)) // 64)
        words = _words(key, block, begin, end).astype("<u8", copy=False)
        bits = np.unpackbits(words.view(np.uint8), bitorder="little").view(np.int8)
        cut = bits[first - 64 * begin :][: len(out)]
        np.multiply(cut, np.int8(2), out=cut)
        np.subtract(cut, np.int8(1), out=out.numpy())

    return _drawn(lambda _: fill, size, part, torch.int8, dtype, device)


def coefficients(purpose: Purpose, *index: int, seed: int, count: int) -> NDArray[np.float64]:
    """A few standard normal numbers for the host, the same on every rank.

    Args:
        purpose: what they are for.
        index: which draw of that purpose.
        seed: the run's seed, any int.
        count: how many.

    Returns:
        Shape (count,).
    """
    return np.asarray(normal(purpose, *index, seed=seed, size=count).numpy())


def _key(kind: str, purpose: Purpose, index: tuple[int, ...], seed: int) -> int:
    """128 bits; two sets of arguments have the same ones with probability 2^-128."""
    text = "/".join(map(str, (f"curvtool random {FORMAT}", kind, purpose.value, seed, *index)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")


def _words(key: int, block: int, first: int, last: int) -> NDArray[np.uint64]:
    """The words [first, last) of a block."""
    count, ahead = divmod(first, _WORDS_A_COUNT)
    philox = np.random.Philox(key=key, counter=count + (block << 64))
    return np.asarray(philox.random_raw(last - first + ahead)[ahead:])


def _drawn(
    filler: Callable[[int], _Fill],
    size: int,
    part: slice | None,
    kind: torch.dtype,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    """A part, block by block: into the vector itself where it is of that kind, or by a detour."""
    begin, end = (0, size) if part is None else (part.start, part.stop)
    if not 0 <= begin <= end <= size:
        raise ValueError(f"Numbers {begin} to {end} of a vector of {size} cannot be drawn.")
    drawn = torch.empty(end - begin, dtype=dtype, device=device)
    blocks = range(begin // BLOCK, -(-end // BLOCK)) if end > begin else range(0)
    workers = min(len(blocks), torch.get_num_threads())
    direct = dtype == kind and device.type == "cpu"

    def work(worker: int) -> None:
        longest = min(BLOCK, end - begin)
        fill = filler(longest)
        detour = None if direct else torch.empty(longest, dtype=kind)
        for block in blocks[worker::workers]:
            low, high = max(begin, block * BLOCK), min(end, (block + 1) * BLOCK)
            target = drawn[low - begin : high - begin]
            made = target if detour is None else detour[: high - low]
            fill(block, low - block * BLOCK, made)
            if detour is not None:
                target.copy_(made)

    if workers <= 1:
        if len(blocks):
            work(0)
        return drawn
    with ThreadPoolExecutor(workers) as pool:
        # Taken out one by one, so that what a worker raises is raised here.
        for done in pool.map(work, range(workers)):
            assert done is None
    return drawn
