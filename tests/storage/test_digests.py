"""Digests: whatever is written over in a run file of any kind is named when it is read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from curvtool.errors import InputError
from curvtool.storage import strictjson
from curvtool.storage.bench import write_bench
from curvtool.storage.density import write_density
from curvtool.storage.diag import write_diag
from curvtool.storage.digests import NAME, verify_digests, write_digests
from curvtool.storage.file import Foreign, peek
from curvtool.storage.run import read_run
from curvtool.storage.spectrum import write_spectrum
from curvtool.storage.spectrum_layers import write_spectrum_layers
from curvtool.storage.trace import write_trace
from curvtool.storage.track import write_track
from tests import estimates, runs, sweeps

VECTORS = np.random.default_rng(0).standard_normal((3, 40)).astype(np.float32)
WRITE: Mapping[str, Callable[[Path], None]] = {
    "spectrum": lambda path: write_spectrum(
        path, runs.run(runs.pairs([3.0, -2.0, 1.0], eigenvectors=VECTORS))
    ),
    "spectrum-layers": lambda path: write_spectrum_layers(path, estimates.blocks_run()),
    "trace": lambda path: write_trace(path, estimates.trace_run()),
    "density": lambda path: write_density(
        path, estimates.density_run(*estimates.layer_densities())
    ),
    "diag": lambda path: write_diag(path, estimates.diag_run()),
    "bench": lambda path: write_bench(path, runs.bench_run()),
    "track": lambda path: write_track(path, sweeps.sweep()),
}
KINDS = pytest.mark.parametrize("kind", WRITE)


@pytest.fixture
def written(kind: str, tmp_path: Path) -> Path:
    path = tmp_path / "run.h5"
    WRITE[kind](path)
    return path


def told(path: Path) -> Any:
    with h5py.File(path) as file:
        return strictjson.loads(file.attrs[NAME])


def with_values(path: Path) -> list[str]:
    """Names of the datasets that have values: axes alone have none."""
    with h5py.File(path) as file:
        return [name for name in told(path)["datasets"] if file[name].id.get_storage_size()]


def change_value(file: Any, name: str) -> None:
    """Write one value of a dataset over by another one."""
    first = (0,) * file[name].ndim
    before = file[name].asstr()[first] if file[name].dtype.kind == "O" else file[name][first]
    if isinstance(before, str):
        file[name][first] = f"{before}?"
    elif file[name].dtype == np.bool_:
        file[name][first] = not before
    else:
        file[name][first] = 1 if np.isnan(before) else before + 1


@KINDS
def test_every_dataset_and_attribute_of_every_kind_is_digested(written: Path) -> None:
    names: set[str] = set()
    digests = told(written)
    with h5py.File(written) as file:
        verify_digests(file)
        file.visit(names.add)
        datasets = {name for name in names if isinstance(file[name], h5py.Dataset)}
        attributes = set(file.attrs)
        for group in names - datasets:
            attributes |= {f"{group}/{name}" for name in file[group].attrs}
    assert digests["datasets"].keys() == datasets
    assert digests["attributes"].keys() == attributes - {NAME}


@KINDS
def test_a_value_that_was_written_over_is_named(written: Path) -> None:
    whole = written.read_bytes()
    for name in with_values(written):
        with h5py.File(written, "r+") as file:
            change_value(file, name)
        with h5py.File(written) as file, pytest.raises(ValueError, match=f"dataset {name} is not"):
            verify_digests(file)
        with pytest.raises(InputError, match=f"damaged .*dataset {name} is not what was written"):
            read_run(written)
        written.write_bytes(whole)


@KINDS
def test_a_text_or_number_that_was_written_over_is_named(written: Path) -> None:
    whole = written.read_bytes()
    for name in told(written)["attributes"]:
        with h5py.File(written, "r+") as file:
            place, _, attribute = name.rpartition("/")
            attrs = file[place or "/"].attrs
            before = attrs[attribute]
            attrs[attribute] = f"{before} " if isinstance(before, str) else 7.25
        with pytest.raises(InputError):
            read_run(written)
        if "/" not in name:
            assert isinstance(peek(written), Foreign)
        written.write_bytes(whole)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    for what, name in (("dataset", "at_floor"), ("attribute", "noise"), ("attribute", NAME)):
        WRITE["spectrum"](path)
        with h5py.File(path, "r+") as file:
            del (file if what == "dataset" else file.attrs)[name]
        with pytest.raises(InputError, match=f"damaged .its {what} {name} is missing"):
            read_run(path)


def test_eigenvectors_are_held_against_their_digest_only_where_they_are_read(
    tmp_path: Path,
) -> None:
    path = tmp_path / "run.h5"
    WRITE["spectrum"](path)
    with h5py.File(path, "r+") as file:
        file["eigenvectors"][1, 7] += 1
    assert read_run(path, vectors=False).pairs.eigenvectors is None  # type: ignore[union-attr]
    with pytest.raises(InputError, match="dataset eigenvectors is not what was written"):
        read_run(path)


def test_a_dataset_is_digested_in_parts_as_it_is_in_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.h5"
    WRITE["spectrum"](path)
    by_rows = told(path)
    monkeypatch.setattr("curvtool.storage.digests._PART_BYTES", 28)
    with h5py.File(path, "r+") as file:
        verify_digests(file)
        write_digests(file)
    assert told(path) == by_rows


def test_the_digest_is_what_the_documentation_says(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    WRITE["spectrum"](path)
    digests = told(path)

    def sha256(head: str, content: bytes) -> str:
        return hashlib.sha256(head.encode() + content).hexdigest()

    with h5py.File(path) as file:
        config = file.attrs["config"]
        names = file["parameters/name"].asstr()[...].tolist()
    assert digests["datasets"]["eigenvectors"] == sha256("<f4 (3, 40) ", VECTORS.tobytes())
    assert digests["datasets"]["parameter"] == sha256(">f4 (40,) ", b"")
    texts = "".join(f"{name}\0" for name in names).encode()
    assert digests["datasets"]["parameters/name"] == sha256("text (3,) ", texts)
    assert digests["attributes"]["config"] == sha256("text () ", f"{config}\0".encode())


def test_files_of_others_are_not_digested(tmp_path: Path) -> None:
    from curvtool.storage.atomic import replacing

    with replacing(tmp_path / "a.h5") as file:
        file["x"] = [1.0]
    with h5py.File(tmp_path / "a.h5") as file:
        assert NAME not in file.attrs
