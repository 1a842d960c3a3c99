"""The numbers depend on seed, purpose, index and position alone, and are what they claim to be.

Letters: P numbers, n of a sample.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from curvtool.algorithms.space import Space
from curvtool.distributed.shares import Shares
from curvtool.random_vectors import streams
from curvtool.random_vectors.purposes import Purpose
from curvtool.random_vectors.streams import BLOCK, coefficients, normal, signs

START, PROBE = Purpose.SOLVE_START, Purpose.COMPLETENESS
CPU = torch.device("cpu")
SIZES = [1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5]
Draw = Callable[..., Tensor]


@pytest.fixture
def threads() -> Any:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("draw", [normal, signs])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_parts_of_any_number_of_ranks_are_the_whole(
    size: int, draw: Draw, dtype: torch.dtype
) -> None:
    whole = draw(START, 3, seed=7, size=size, dtype=dtype)
    assert whole.shape == (size,)
    assert whole.dtype == dtype
    for ranks in (r for r in (1, 2, 3, 7) if r <= size):
        shares = Shares(size, ranks)
        parts = [
            draw(START, 3, seed=7, size=size, part=shares.part(rank), dtype=dtype)
            for rank in range(ranks)
        ]
        assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("draw", [normal, signs])
@given(data=st.data())
def test_any_part_is_that_of_the_whole(draw: Draw, data: st.DataObject) -> None:
    """Cuts fall inside pairs, inside words of 64 signs, and inside Philox's four words."""
    size = BLOCK + 300
    begin = data.draw(st.integers(BLOCK - 300, size))
    end = data.draw(st.integers(begin, size))
    near = draw(START, seed=1, size=size, part=slice(BLOCK - 300, size))
    part = draw(START, seed=1, size=size, part=slice(begin, end))
    assert torch.equal(part, near[begin - BLOCK + 300 : end - BLOCK + 300])


def test_a_longer_vector_begins_with_the_shorter_one() -> None:
    assert torch.equal(
        normal(START, seed=0, size=3 * BLOCK)[:1001], normal(START, seed=0, size=1001)
    )


def test_a_space_gives_each_rank_its_part() -> None:
    size = BLOCK + 17
    whole = Space(size, dtype=torch.float64, device=CPU)
    for draw in ("normal", "signs"):
        parts = []
        for rank in range(3):
            group: Any = SimpleNamespace(rank=rank, size=3)
            space = Space(size, dtype=torch.float64, device=CPU, group=group)
            parts.append(getattr(space, draw)(PROBE, 1, seed=4))
        assert torch.equal(torch.cat(parts), getattr(whole, draw)(PROBE, 1, seed=4))
    assert torch.equal(whole.probe("gaussian", PROBE, 1, seed=4), whole.normal(PROBE, 1, seed=4))
    assert torch.equal(whole.probe("rademacher", PROBE, 1, seed=4), whole.signs(PROBE, 1, seed=4))


@pytest.mark.parametrize("draw", [normal, signs])
def test_threads_change_nothing(draw: Draw, threads: Callable[[int], None]) -> None:
    found = []
    for count in (1, 2, 5):
        threads(count)
        found.append(draw(START, seed=0, size=4 * BLOCK + 3, dtype=torch.float32))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_what_a_thread_raises_is_raised(
    monkeypatch: pytest.MonkeyPatch, threads: Callable[[int], None]
) -> None:
    def broken(*_: object) -> NDArray[np.uint64]:
        raise MemoryError

    monkeypatch.setattr(streams, "_words", broken)
    threads(2)
    with pytest.raises(MemoryError):
        normal(START, seed=0, size=2 * BLOCK)


def test_float32_numbers_are_those_of_float64_to_rounding() -> None:
    high = normal(START, seed=0, size=BLOCK)
    low = normal(START, seed=0, size=BLOCK, dtype=torch.float32)
    # Eight roundings of a radius below 6.8 on the way.
    assert float((low - high).abs().max()) <= 8 * 2.0**-23 * 6.8
    rounded = normal(START, seed=0, size=BLOCK, dtype=torch.bfloat16)
    assert torch.equal(rounded, low.bfloat16())
    assert torch.equal(
        signs(START, seed=0, size=99, dtype=torch.float32).double(), signs(START, seed=0, size=99)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", [0, 1, -1])
def test_normal_numbers_are_normal(dtype: torch.dtype, seed: int) -> None:
    n = BLOCK
    z = normal(START, seed=seed, size=n, dtype=dtype).double().numpy()
    # E z^2k = (2k - 1)!!, so that z, z^2, z^3, z^4 vary by 1, 2, 15, 96. Five standard errors each.
    for power, (mean, variance) in enumerate([(0, 1), (1, 2), (0, 15), (3, 96)], start=1):
        assert abs((z**power).mean() - mean) <= 5 * math.sqrt(variance / n)
    # Kolmogorov: P(sqrt(n) D > 3.3) < 2 exp(-2 3.3^2) = 7e-10.
    assert math.sqrt(n) * stats.kstest(z, "norm").statistic < 3.3
    # Poisson counts beyond 4: 66 are expected.
    beyond = n * 2 * stats.norm.sf(4.0)
    assert abs((np.abs(z) > 4).sum() - beyond) <= 5 * math.sqrt(beyond)
    # Of the two numbers of a word, and of neighbouring words.
    for lag in (1, 2, 8, BLOCK // 2):
        a, b = z[:-lag], z[lag:]
        for f in (np.array, np.abs, np.square):
            correlation = float(np.corrcoef(f(a), f(b))[0, 1])
            assert abs(correlation) <= 5 / math.sqrt(len(a))


def test_signs_are_balanced_and_independent() -> None:
    n = BLOCK
    z = signs(START, seed=0, size=n).numpy()
    assert set(z.tolist()) == {-1.0, 1.0}
    assert abs(z.mean()) <= 5 / math.sqrt(n)
    for lag in (1, 2, 8, 64, 256):
        assert abs((z[lag:] * z[:-lag]).mean()) <= 5 / math.sqrt(n - lag)


def test_other_keys_give_unrelated_numbers() -> None:
    """Other seed, purpose, index, block, rank or kind."""
    n = 2**15
    drawn: dict[str, Tensor] = {}
    for seed in (0, 1, -1, 2**32, 2**64, -(2**64), 2**64 + 1, 10**40):
        for purpose in (START, PROBE):
            for index in ((), (0,), (1,), (0, 0), (0, 1), (1, 0), (10,)):
                name = f"{seed} {purpose} {index}"
                drawn[name] = normal(purpose, *index, seed=seed, size=n)
    for block in (1, 2, 3):
        part = slice(block * BLOCK, block * BLOCK + n)
        drawn[f"block {block}"] = normal(START, seed=0, size=4 * BLOCK, part=part)
    for rank, part in enumerate(normal(START, 7, seed=0, size=4 * n).view(4, n)):
        drawn[f"rank {rank} of 4"] = part
    drawn["signs"] = signs(START, seed=0, size=n)
    Z = torch.stack(list(drawn.values()))
    G = (Z @ Z.T / n).fill_diagonal_(0)
    # 120 draws, 7140 pairs: one correlation beyond 6.5 standard errors is a chance of 5e-7.
    assert float(G.abs().max()) <= 6.5 / math.sqrt(n)


@pytest.mark.parametrize("seed", [0, 1234])
def test_nothing_is_shared_with_the_generators_that_make_weights(seed: int) -> None:
    """Of the same seed, at any offset between the two sequences."""
    n = BLOCK
    theirs = {
        "torch": torch.randn(n, generator=torch.Generator().manual_seed(seed)).double().numpy(),
        "torch64": torch.randn(
            n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        ).numpy(),
        "uniform": torch.rand(n, generator=torch.Generator().manual_seed(seed)).double().numpy(),
        "numpy": np.random.default_rng(seed).standard_normal(n),
        "legacy": np.random.RandomState(seed).standard_normal(n),
        "philox": np.random.Generator(np.random.Philox(seed)).standard_normal(n),
        "keyed": np.random.Generator(np.random.Philox(key=seed)).standard_normal(n),
    }
    for purpose in (START, PROBE):
        ours = np.fft.rfft(normal(purpose, 1, seed=seed, size=n).numpy())
        for values in theirs.values():
            scaled = (values - values.mean()) / values.std()
            all_offsets = np.fft.irfft(ours * np.fft.rfft(scaled).conj(), n) / n
            # The largest of n normal numbers is sqrt(2 ln n) = 5.3; 7.5 is a chance of 7e-8.
            assert np.abs(all_offsets).max() <= 7.5 / math.sqrt(n)


def test_no_two_purposes_share_a_key() -> None:
    indices: list[tuple[int, ...]] = [(), (0,), (1,), (11,), (1, 1), (1, 11), (11, 1), (-1,)]
    keys = {
        streams._key(kind, purpose, index, seed)
        for kind, purpose, index, seed in itertools.product(
            ("normal", "signs"), Purpose, indices, (0, 1, 11, -1)
        )
    }
    assert len(keys) == 2 * len(Purpose) * len(indices) * 4
    # A key's text is joined by "/": no purpose may look like two parts of it.
    assert not any("/" in purpose.value for purpose in Purpose)


def test_a_part_is_drawn_without_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = 0
    words = streams._words

    def counted(*given: int) -> NDArray[np.uint64]:
        nonlocal drawn
        found = words(*given)
        drawn += len(found)
        return found

    monkeypatch.setattr(streams, "_words", counted)
    # Half of a vector of 10^12 numbers: two blocks of them.
    part = slice(5 * 10**11 - BLOCK, 5 * 10**11 + BLOCK)
    assert normal(START, seed=0, size=10**12, part=part).shape == (2 * BLOCK,)
    # Two numbers a word; a cut pair costs one more at either end of each of three blocks.
    assert BLOCK <= drawn <= BLOCK + 6
    drawn = 0
    signs(START, seed=0, size=10**12, part=part)
    assert BLOCK // 32 <= drawn <= BLOCK // 32 + 6


def test_drawing_takes_little_more_memory_than_the_vector() -> None:
    """The peak of a process of its own, which draws 2^25 numbers twice."""
    script = f"""
import resource, torch
from curvtool.random_vectors.purposes import Purpose
from curvtool.random_vectors.streams import normal, signs
def peak(): return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
torch.set_num_threads(2)
for draw in (normal, signs):
    draw(Purpose.TIMING, seed=0, size={4 * BLOCK}, dtype=torch.float32)  # code, pools, scratch
before = peak()
for draw in (normal, signs):
    z = draw(Purpose.TIMING, seed=0, size=2**25, dtype=torch.float32)
    del z
print(peak() - before)
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    # The vector, less what the first draws had taken, and a block of float64 for each thread.
    assert int(ended.stdout) <= 4 * 2**25 + 2 * 8 * BLOCK


def test_coefficients_are_the_numbers_of_their_stream() -> None:
    found = coefficients(Purpose.CERTIFICATE, 2, seed=5, count=9)
    assert found.dtype == np.float64
    assert np.array_equal(found, normal(Purpose.CERTIFICATE, 2, seed=5, size=9).numpy())


@pytest.mark.parametrize("part", [slice(-1, 4), slice(3, 11), slice(5, 4)])
def test_parts_outside_the_vector_are_refused(part: slice) -> None:
    with pytest.raises(ValueError, match="of a vector of 10 cannot be drawn"):
        normal(START, seed=0, size=10, part=part)


def test_an_empty_part_is_empty() -> None:
    assert len(normal(START, seed=0, size=10, part=slice(4, 4))) == 0


# The numbers themselves. Whoever has to change these changes `streams.FORMAT` and
# `storage.state.SCHEMA` as well: a half-done run must not go on with other random vectors.
FIRST: list[tuple[Draw, Purpose, tuple[int, ...], int, list[float]]] = [
    (
        normal,
        Purpose.SOLVE_START,
        (1,),
        0,
        [-1.3794841185043563, -0.6681466326263819, 1.1716292291486714, 0.4675703163116467],
    ),
    (
        normal,
        Purpose.COMPLETENESS,
        (1,),
        0,
        [0.770439280693954, -0.11847125219433922, -0.7039382171375197, -0.2403514987680037],
    ),
    (
        normal,
        Purpose.COMPLETENESS,
        (1,),
        -1,
        [-0.2992950037851218, -0.2726185687934871, 0.593284634945427, -0.2589170398264034],
    ),
    (
        normal,
        Purpose.PREFLIGHT,
        (0,),
        2**70,
        [-0.03839545860372468, -0.6307227606567805, 0.5745759671021113, -1.0480312535890612],
    ),
    (
        signs,
        Purpose.TRACE_PER_TERM,
        (0, 1),
        0,
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, -1.0, 1.0, -1.0, 1.0, 1.0, 1.0],
    ),
]
DIGESTS: list[tuple[Draw, torch.dtype, str]] = [
    (normal, torch.float64, "fcfa5fd5dbf99ef664b20cd7082352968454fb6cc5496b862691f4d61007db3d"),
    (normal, torch.float32, "2f9569cee9ada6f594577155a0c895a5d12c21f944b359d65be11772f95bc8ab"),
    (signs, torch.float64, "a1fcb04337719f9d9a449432b58532624f0ca466b32feca7bd12080c8b7cd3cc"),
    (signs, torch.float32, "94e4cf1dbf2e8198c27aa964e26935fd608a846f487ee1f1628ff25a3c8c7d7e"),
]


@pytest.mark.parametrize(("draw", "purpose", "index", "seed", "numbers"), FIRST)
def test_the_first_numbers_never_change(
    draw: Draw, purpose: Purpose, index: tuple[int, ...], seed: int, numbers: list[float]
) -> None:
    assert draw(purpose, *index, seed=seed, size=len(numbers)).tolist() == numbers


@pytest.mark.parametrize(("draw", "dtype", "digest"), DIGESTS)
def test_no_bit_of_three_blocks_ever_changes(draw: Draw, dtype: torch.dtype, digest: str) -> None:
    numbers = draw(PROBE, 1, seed=0, size=2 * BLOCK + 5, dtype=dtype).numpy()
    little_endian = numbers.astype(numbers.dtype.newbyteorder("<")).tobytes()
    assert hashlib.sha256(little_endian).hexdigest() == digest
