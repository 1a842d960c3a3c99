"""The kind `bench`: what is written comes back."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curvtool.errors import InputError
from curvtool.results import BenchRun, Forecast, Verdict, WayTrial
from curvtool.storage.bench import read_bench, write_bench
from curvtool.storage.run import read_run
from curvtool.storage.spectrum import read_spectrum, write_spectrum
from tests import runs

TEXT = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=12)
NUMBERS = st.none() | st.floats(allow_nan=False)
BYTES = st.none() | st.integers(0, 2**62)
TRIALS = st.builds(
    WayTrial,
    way=TEXT,
    verdict=st.sampled_from(Verdict),
    exact=st.booleans(),
    seconds=NUMBERS,
    spread=NUMBERS,
    setup_seconds=NUMBERS,
    gradients=NUMBERS,
    bytes_kept=BYTES,
    bytes_peak=BYTES,
    error=NUMBERS,
    detail=TEXT,
)


def bench(*trials: WayTrial) -> BenchRun:
    return runs.bench_run(trials=trials)


ONE = WayTrial(way="retained-graph", verdict=Verdict.CHOSEN, seconds=0.1, bytes_kept=7)
TWO = WayTrial(way="compiled", verdict=Verdict.REFUSED, detail="no compiler")


@given(st.lists(TRIALS, max_size=5))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_what_is_written_comes_back(tmp_path: Path, trials: list[WayTrial]) -> None:
    path = tmp_path / "a.h5"
    run = bench(*trials)
    write_bench(path, run)
    assert dataclasses.asdict(read_bench(path)) == dataclasses.asdict(run)
    assert isinstance(read_run(path), BenchRun)


def test_xarray_reads_the_rows(tmp_path: Path) -> None:
    write_bench(tmp_path / "a.h5", bench(ONE, TWO))
    with xr.open_dataset(tmp_path / "a.h5", engine="h5netcdf") as data:
        assert list(data["name"].values) == ["retained-graph", "compiled"]
        assert data["seconds"].dims == ("way",)
        assert data["seconds"].attrs["units"] == "s"
        assert np.isnan(data["seconds"].values[1])
        assert list(data["bytes_kept"].values) == [7, -1]


def test_another_kind_is_refused(tmp_path: Path) -> None:
    write_bench(tmp_path / "a.h5", bench(ONE))
    with pytest.raises(InputError, match="'spectrum', it holds kind 'bench'"):
        read_spectrum(tmp_path / "a.h5")
    write_spectrum(tmp_path / "b.h5", runs.run())
    with pytest.raises(InputError, match="'bench', it holds kind 'spectrum'"):
        read_bench(tmp_path / "b.h5")


def test_a_damaged_file_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    write_bench(path, bench(ONE))
    with h5py.File(path, "r+") as file:
        del file["seconds"]
    with pytest.raises(InputError, match="damaged"):
        read_bench(path)


def test_what_was_foreseen_comes_back_with_a_spectrum(tmp_path: Path) -> None:
    forecast = Forecast(products=60, seconds_per_product=0.5, seconds=31.0, bytes=2**30)
    plan = runs.plan(forecast=forecast, trials=(ONE, TWO), reason="1.2 times as fast")
    write_spectrum(tmp_path / "a.h5", runs.run(plan=plan))
    assert read_spectrum(tmp_path / "a.h5").plan == plan


def test_a_plan_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    write_spectrum(path, runs.run())
    with h5py.File(path, "r+") as file:
        file.attrs["schema"] = "curvtool/1"  # whose files were not digested
        file.attrs["plan"] = (
            '{"way": "retained-graph", "device": "cpu", "dtype": "float32", "batches_kept": 1, '
            '"num_batches": 1, "bytes_kept": 5, "bytes_basis": 6, "memory_limit": 7, '
            '"seconds_per_product": 0.5}'
        )
    plan = read_spectrum(path).plan
    assert plan.forecast is None
    assert plan.trials == ()
