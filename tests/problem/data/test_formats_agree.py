"""The same examples give the same batches in whatever format they come: to the bit, so the same H.

N examples; x has float64 features and y whole numbers, which every format keeps exactly (text by
the shortest decimals that come back as the same float64).
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from curvtool.problem.stored import StoredBatch
from tests.problem.data.making import NAMES, WRITERS, N, W, X, Y, read, spec, tensors


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("formats")
    for write in WRITERS.values():
        write(folder, x=X, y=Y, w=W)
    return folder


SOURCES = {
    "npz": "npz:d.npz",
    "npy": "npy:npy",
    "csv": "csv:d.csv",
    "tsv_gz": "csv:d.tsv.gz",
    "parquet": "parquet:d.parquet.brotli",
    "parquet_lists": "parquet:lists.parquet",
    "arrow": "arrow:d.arrow",
    "arrow_stream": "arrow:s.arrow",
    "hdf5": "hdf5:d.h5",
    "safetensors": "safetensors:d.safetensors",
    "pt": "pt:d.pt",
    "hf": "hf:hf",
}


def inputs_of(name: str) -> tuple[str, ...]:
    tables = {"csv", "tsv_gz", "parquet", "arrow", "arrow_stream"}
    return NAMES if name in tables else ("x",)


@pytest.mark.parametrize("weights", [None, "w"])
@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_tensors(name: str, weights: str | None, folder: Path) -> None:
    data = spec(folder, SOURCES[name], inputs=inputs_of(name), targets="y", weights=weights)
    made = read(data, size=5)
    x, y, *rest = tensors(made)
    assert x.dtype == torch.float64
    assert y.dtype == torch.int64
    assert torch.equal(x, torch.from_numpy(X))
    assert torch.equal(y, torch.from_numpy(Y))
    assert [torch.equal(w, torch.from_numpy(W)) for w in rest] == [True] * (weights is not None)
    assert [batch.examples for batch in made.batches] == [5, 5, 5, 5, 3]
    plain = spec(folder, SOURCES["npz"], inputs=("x",), targets="y", weights=weights)
    assert made.sha256 == read(plain).sha256


@pytest.mark.parametrize("name", WRITERS)
def test_data_that_are_read_in_every_pass_are_the_same(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = spec(folder, SOURCES[name], inputs=inputs_of(name), targets="y", weights="w")
    # A batch of five takes 5 * (6 + 1 + 1) * 8 = 320 bytes, all of them 1472, and text more.
    kept = read(data, size=5)
    monkeypatch.setattr("curvtool.problem.data.allowance._KEPT", 40)
    made = read(data, size=5, memory=40_000)
    assert all(isinstance(batch, StoredBatch) for batch in made.batches)
    assert not any(isinstance(batch, StoredBatch) for batch in kept.batches)
    assert made.sha256 == kept.sha256
    for _ in range(2):
        for one, other in zip(tensors(made), tensors(kept), strict=True):
            assert torch.equal(one, other)
    assert any("read again in every pass" in note for note in made.notes)


@pytest.mark.parametrize("name", WRITERS)
@settings(deadline=None, max_examples=20)
@given(size=st.integers(1, 30), most=st.integers(1, 30), seed=st.integers(0, 3))
def test_a_subset_is_the_same_in_every_format(
    name: str, size: int, most: int, seed: int, folder: Path
) -> None:
    data = spec(folder, SOURCES[name], inputs=inputs_of(name), targets="y")
    made = read(data, size=size, most=most, seed=seed)
    drawn = torch.randperm(N, generator=torch.Generator().manual_seed(seed))[:most].sort().values
    x, y = tensors(made)
    assert torch.equal(x, torch.from_numpy(X)[drawn])
    assert torch.equal(y, torch.from_numpy(Y)[drawn])
    assert any(f"{most} of {N} examples (seed {seed})" in n for n in made.notes) == (most < N)
