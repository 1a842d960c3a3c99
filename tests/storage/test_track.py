"""The kind `track`: what is written comes back."""

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

from curvtool.errors import InputError
from curvtool.results import Outcome, Tracked, TrackRun
from curvtool.storage.run import read_run
from curvtool.storage.spectrum import write_spectrum
from curvtool.storage.track import read_track, vector_columns, vector_rows, write_track
from tests import runs, sweeps

TEXT = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=12)
FINITE = st.floats(allow_nan=False, allow_infinity=False)


def flags(size: int) -> st.SearchStrategy[NDArray[np.bool_]]:
    return st.lists(st.booleans(), min_size=size, max_size=size).map(
        lambda found: np.array(found, dtype=np.bool_)
    )


@st.composite
def rows(draw: st.DrawFn) -> Tracked:
    k = draw(st.integers(0, 4))
    figures = st.lists(FINITE, min_size=k, max_size=k).map(np.array)
    return Tracked(
        name=draw(TEXT),
        checkpoint=draw(TEXT),
        file=draw(TEXT),
        outcome=draw(st.sampled_from(Outcome)),
        message=draw(TEXT),
        loss=draw(st.floats(allow_nan=False)),
        gradient_norm=draw(st.floats(allow_nan=False)),
        hvps=draw(st.integers(0, 2**62)),
        seconds=draw(st.floats(0, 1e9)),
        eigenvalues=draw(figures),
        eigenvalue_errors=draw(figures),
        converged=draw(flags(k)),
        at_floor=draw(flags(k)),
        complete=draw(st.booleans()),
        proved_rank=draw(st.integers(0, 2**62)),
        started_from=draw(TEXT),
        compared_with=draw(TEXT),
        cosines=np.array(draw(st.lists(st.floats(0, 1), max_size=4)), dtype=np.float64),
    )


def plain(run: TrackRun) -> Any:
    """As lists, which can be compared."""
    fields = dataclasses.asdict(run)
    fields["rows"] = [
        {n: v.tolist() if isinstance(v, np.ndarray) else v for n, v in row.items()}
        for row in fields["rows"]
    ]
    return fields


@given(st.lists(rows(), max_size=4))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_what_is_written_comes_back(tmp_path: Path, found: list[Tracked]) -> None:
    path = tmp_path / "summary.h5"
    for run in (sweeps.sweep(rows=tuple(found)), sweeps.sweep(rows=tuple(found), problem=None)):
        write_track(path, run)
        assert plain(read_track(path)) == plain(run)
        assert isinstance(read_run(path), TrackRun)


def test_xarray_selects_checkpoints_by_their_names(tmp_path: Path) -> None:
    write_track(tmp_path / "a.h5", sweeps.sweep(sweeps.row(), sweeps.LATER, sweeps.FAILED))
    with xr.open_dataset(tmp_path / "a.h5", engine="h5netcdf") as data:
        later = data.sel(checkpoint="step_200")
        assert later["eigenvalues"].dims == ("pair",)
        assert later["eigenvalues"].values.tolist() == [12.8034, 9.12, -0.51]
        assert later["cosines"].dims == ("angle",)
        np.testing.assert_allclose(later["overlap"], (0.99**2 + 0.9**2 + 0.5**2) / 3)
        assert np.isnan(data["eigenvalues"].sel(checkpoint="step_300")).all()
        assert data["outcome"].values.tolist() == ["converged", "converged", "failed"]
        assert data.attrs["kind"] == "track"
        assert data.attrs["hvps"] == 31 + 24


def test_a_damaged_file_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    write_track(path, sweeps.sweep())
    with h5py.File(path, "r+") as file:
        del file["cosines"]
    with pytest.raises(InputError, match="damaged"):
        read_track(path)


def test_names_that_are_no_utf8_are_written(tmp_path: Path) -> None:
    write_track(tmp_path / "a.h5", sweeps.sweep(sweeps.row("step\udcff")))
    assert read_track(tmp_path / "a.h5").rows[0].name == "step\\udcff"


def test_vectors_are_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curvtool.storage.track._COLUMNS", 7)
    rng = np.random.default_rng(0)
    U, V = rng.standard_normal((3, 40)), rng.standard_normal((2, 40))
    paths = [tmp_path / "u.h5", tmp_path / "v.h5", tmp_path / "none.h5", tmp_path / "short.h5"]
    for path, vectors in zip(paths, (U, V, None, V[:, :39]), strict=True):
        k = 2 if vectors is None else len(vectors)
        write_spectrum(path, runs.run(runs.pairs([3.0, 2.0, 1.0][:k], eigenvectors=vectors)))
    np.testing.assert_array_equal(np.stack(list(vector_rows(paths[0]))), U)
    assert not list(vector_rows(paths[2]))
    blocks = list(vector_columns(paths[0], paths[1]))
    assert len(blocks) == 6
    np.testing.assert_array_equal(np.concatenate([b[0] for b in blocks], axis=1), U)
    np.testing.assert_array_equal(np.concatenate([b[1] for b in blocks], axis=1), V)
    assert not list(vector_columns(paths[0], paths[2]))
    assert not list(vector_columns(paths[0], paths[3]))
