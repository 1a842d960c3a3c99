from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from curvtool.results import (
    Certification,
    Check,
    Completeness,
    EigenPairs,
    EndProof,
    Outcome,
    ParameterEntry,
    Plan,
    Preflight,
    ProblemSummary,
    SpectrumRun,
)
from curvtool.storage.spectrum import read_spectrum, write_spectrum
from tests import runs

FLOATS = st.floats()
COUNTS = st.integers(0, 2**62)
# HDF5 ends strings at NUL and stores UTF-8: no tensor is called otherwise.
NAMES = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=12)
KEYS = st.text("abcdefghij_0123456789 é", min_size=1, max_size=8)
JSON = st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | FLOATS | st.text())


def arrays(size: int) -> st.SearchStrategy[NDArray[np.float64]]:
    return st.lists(FLOATS, min_size=size, max_size=size).map(np.array)


ENDS = st.none() | st.builds(
    EndProof,
    listed=COUNTS,
    proved_rank=COUNTS,
    nothing_beyond=st.none() | FLOATS,
    unseen=st.floats(0, 1),
)
PROVED = st.builds(
    Completeness,
    complete=st.booleans(),
    probability=st.none() | st.floats(0, 1),
    upper=ENDS,
    lower=ENDS,
    margin=st.floats(0, 1),
    products=COUNTS,
    found=COUNTS,
    reason=st.text(),
)


def flags(size: int) -> st.SearchStrategy[NDArray[np.bool_]]:
    return st.lists(st.booleans(), min_size=size, max_size=size).map(
        lambda found: np.array(found, dtype=np.bool_)
    )


@st.composite
def eigenpairs(draw: st.DrawFn) -> EigenPairs:
    k = draw(st.integers(0, 5))
    steps = draw(st.integers(0, 4))
    vectors = None
    if k and draw(st.booleans()):
        rng = np.random.default_rng(draw(st.integers(0, 99)))
        kind = draw(st.sampled_from(["f4", "f8"]))
        vectors = rng.standard_normal((k, draw(st.integers(1, 9)))).astype(kind)
    return EigenPairs(
        eigenvalues=draw(arrays(k)),
        residual_norms=draw(arrays(k)),
        eigenvalue_errors=draw(arrays(k)),
        converged=draw(flags(k)),
        at_floor=draw(flags(k)),
        outcome=draw(st.sampled_from(Outcome)),
        completeness=draw(PROVED),
        certification=draw(st.sampled_from(Certification)),
        which=draw(st.sampled_from(["LM", "LA", "SA", "BE"])),
        method=draw(NAMES),
        tol=draw(FLOATS),
        accuracy=draw(NAMES),
        hvps=draw(COUNTS),
        hvps_by_stage=draw(st.dictionaries(st.text(), COUNTS)),
        seconds=draw(FLOATS),
        noise=draw(FLOATS),
        history=draw(st.dictionaries(KEYS | st.sampled_from(["step"]), arrays(steps), max_size=3)),
        eigenvectors=vectors,
    )


SHAPES = st.lists(st.integers(0, 99), max_size=5).map(tuple)
ENTRIES = st.builds(ParameterEntry, name=NAMES, shape=SHAPES, offset=COUNTS, size=COUNTS)
CHECKS = st.builds(
    Check,
    name=st.text(),
    defect=st.none() | FLOATS,
    allowed=FLOATS,
    passed=st.none() | st.booleans(),
    detail=st.text(),
)
RUNS = st.builds(
    SpectrumRun,
    pairs=eigenpairs(),
    problem=st.builds(ProblemSummary, notes=st.lists(st.text(), max_size=3).map(tuple)),
    plan=st.builds(Plan),
    preflight=st.builds(Preflight, checks=st.lists(CHECKS, max_size=3).map(tuple)),
    parameters=st.lists(ENTRIES, max_size=4).map(tuple),
    config=JSON,
    environment=JSON,
    seconds=FLOATS,
    version=NAMES,
    created=NAMES,
)


def assert_same(left: Any, right: Any) -> None:
    """Field by field; arrays by value and type, nan equal to nan."""
    if dataclasses.is_dataclass(left):
        assert type(left) is type(right)
        for field in dataclasses.fields(left):
            assert_same(getattr(left, field.name), getattr(right, field.name))
    elif isinstance(left, np.ndarray):
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)
    elif isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            assert_same(left[key], right[key])
    elif isinstance(left, tuple):
        assert len(left) == len(right)
        for one, other in zip(left, right, strict=True):
            assert_same(one, other)
    else:
        np.testing.assert_equal(left, right)


# The file is replaced by every example, which is itself part of what is tested.
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(run=RUNS)
def test_a_run_comes_back_whole(run: SpectrumRun, tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    write_spectrum(path, run)
    assert_same(run, read_spectrum(path))
    assert [file.name for file in tmp_path.iterdir()] == ["run.h5"]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(run=RUNS)
def test_every_run_opens_in_xarray(run: SpectrumRun, tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    write_spectrum(path, run)
    with xr.open_datatree(path) as tree:
        assert tree["eigenvalues"].dims == ("pair",)


def test_xarray_sees_named_axes(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((20, 119)).astype(np.float32)
    run = runs.run(runs.pairs(runs.spectrum(20), eigenvectors=vectors))
    write_spectrum(tmp_path / "run.h5", run)
    with xr.open_dataset(tmp_path / "run.h5") as data:
        for name in ("eigenvalues", "residual_norms", "eigenvalue_errors", "converged", "at_floor"):
            assert data[name].dims == ("pair",)
        assert data["eigenvectors"].dims == ("pair", "parameter")
        assert dict(data.sizes) == {"pair": 20, "parameter": 119}
        assert data.attrs["schema"] == "curvtool/2"
        np.testing.assert_array_equal(data["eigenvectors"], vectors)
    with xr.open_datatree(tmp_path / "run.h5") as tree:
        assert tree["history/largest"].dims == ("step",)
        assert tree["parameters/shape"].dims == ("tensor", "dimension")
        assert tree["parameters"].to_dataset()["name"].values.tolist() == [
            "conv1.weight",
            "scale",
            "fc.bias",
        ]


class Rows:
    """Stands in for a large tensor on a device: gives rows, counts those alive."""

    def __init__(self, k: int, P: int) -> None:
        self.shape = (k, P)
        self.asked: list[int] = []

    def __getitem__(self, i: int) -> NDArray[np.float32]:
        self.asked.append(i)
        return np.full(self.shape[1], i, dtype=np.float32)

    def __array__(self, *_: Any, **__: Any) -> NDArray[np.float32]:
        raise AssertionError("the whole of the eigenvectors was asked for at once")


def test_eigenvectors_are_written_row_by_row_in_checked_chunks(tmp_path: Path) -> None:
    rows = Rows(3, 3_000_000)
    write_spectrum(tmp_path / "run.h5", runs.run(runs.pairs([3.0, 2.0, 1.0], eigenvectors=rows)))
    with h5py.File(tmp_path / "run.h5") as file:
        stored = file["eigenvectors"]
        assert stored.chunks[0] == 1
        assert 2**20 <= stored.chunks[1] * stored.dtype.itemsize <= 16 * 2**20
        assert stored.fletcher32
        assert stored[:, -1].tolist() == [0, 1, 2]


def test_the_parameter_axis_costs_no_storage(tmp_path: Path) -> None:
    # Every chunk of 3e6 zeros takes its place on disk; the axis would take as much again.
    rows = Rows(1, 3_000_000)
    write_spectrum(tmp_path / "run.h5", runs.run(runs.pairs([1.0], eigenvectors=rows)))
    with h5py.File(tmp_path / "run.h5") as file:
        assert file["parameter"].shape == (3_000_000,)
        assert file["parameter"].id.get_storage_size() == 0


def test_tensors_are_taken_row_by_row(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    vectors = torch.eye(2, 5).requires_grad_()
    write_spectrum(tmp_path / "run.h5", runs.run(runs.pairs([2.0, 1.0], eigenvectors=vectors)))
    found = read_spectrum(tmp_path / "run.h5").pairs.eigenvectors
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.eye(2, 5))
    half = torch.eye(2, 5, dtype=torch.bfloat16)
    write_spectrum(tmp_path / "run.h5", runs.run(runs.pairs([2.0, 1.0], eigenvectors=half)))
    np.testing.assert_array_equal(
        read_spectrum(tmp_path / "run.h5").pairs.eigenvectors, np.eye(2, 5)
    )


def test_eigenvectors_can_be_left_in_the_file(tmp_path: Path) -> None:
    run = runs.run(runs.pairs([2.0, 1.0], eigenvectors=np.eye(2, 5)))
    write_spectrum(tmp_path / "run.h5", run)
    assert read_spectrum(tmp_path / "run.h5", eigenvectors=False).pairs.eigenvectors is None


def test_history_series_may_differ_in_length(tmp_path: Path) -> None:
    history = {"a": np.arange(3.0), "b": np.arange(5.0), "step_2": np.arange(3.0)}
    pairs = dataclasses.replace(runs.pairs([1.0]), history=history)
    write_spectrum(tmp_path / "run.h5", runs.run(pairs))
    assert_same(read_spectrum(tmp_path / "run.h5").pairs.history, history)


@pytest.mark.parametrize(
    "changes",
    [
        {"residual_norms": np.zeros(3)},
        {"converged": np.zeros((2, 1), dtype=np.bool_)},
        {"at_floor": np.zeros(1, dtype=np.bool_)},
        {"eigenvectors": np.zeros((3, 4))},
        {"eigenvectors": np.zeros(2)},
        {"history": {"a/b": np.zeros(2)}},
        {"history": {"a": np.zeros((2, 2))}},
    ],
)
def test_shapes_that_do_not_fit_are_refused_before_writing(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    pairs = dataclasses.replace(runs.pairs([2.0, 1.0]), **changes)
    with pytest.raises(ValueError, match="write_spectrum needs"):
        write_spectrum(tmp_path / "run.h5", runs.run(pairs))
    assert not list(tmp_path.iterdir())
