"""The kinds trace, density, diag and spectrum-layers: what is written comes back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
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
from curvtool.results import (
    BlockSpectra,
    DensityEstimate,
    DensityRun,
    DiagonalEstimate,
    DiagRun,
    Outcome,
    SpectralFunction,
    SpectrumBlocksRun,
    TraceEstimate,
    TraceRun,
)
from curvtool.storage.density import read_density, write_density
from curvtool.storage.diag import read_diag, write_diag
from curvtool.storage.file import peek
from curvtool.storage.run import read_run
from curvtool.storage.spectrum import read_spectrum
from curvtool.storage.spectrum_layers import read_spectrum_layers, write_spectrum_layers
from curvtool.storage.trace import read_trace, write_trace
from tests import estimates, runs
from tests.storage.test_spectrum import assert_same, eigenpairs

WRITERS: Mapping[type, Callable[..., None]] = {
    TraceRun: write_trace,
    DensityRun: write_density,
    DiagRun: write_diag,
    SpectrumBlocksRun: write_spectrum_layers,
}
RUNS = {
    "trace": estimates.trace_run(),
    "density": estimates.density_run(),
    "density of layers": estimates.density_run(*estimates.layer_densities()),
    "diag": estimates.diag_run(),
    "spectrum of layers": estimates.blocks_run(),
}
FLOATS = st.floats()
NAMES = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=12)
OUTCOMES = st.sampled_from(Outcome)
FREE = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def arrays(*shape: int) -> st.SearchStrategy[NDArray[np.float64]]:
    number = int(np.prod(shape))
    return st.lists(FLOATS, min_size=number, max_size=number).map(
        lambda values: np.array(values, dtype=np.float64).reshape(shape)
    )


@st.composite
def traces(draw: st.DrawFn) -> TraceEstimate:
    R, B, L = (draw(st.integers(0, 3)) for _ in range(3))
    return draw(
        st.builds(
            TraceEstimate,
            trace=FLOATS,
            stderr=FLOATS,
            interval=st.tuples(FLOATS, FLOATS),
            confidence=FLOATS,
            degrees_of_freedom=FLOATS,
            rel_err=st.none() | FLOATS,
            abs_err=st.none() | FLOATS,
            method=NAMES,
            probes=NAMES,
            sharing=NAMES,
            samples=arrays(R, B),
            batch_weight=arrays(B),
            outcome=OUTCOMES,
            hvps=FLOATS,
            hvps_by_stage=st.dictionaries(st.text(), FLOATS, max_size=3),
            seconds=FLOATS,
            noise=FLOATS,
            deflated=st.integers(0, 99),
            deflated_trace=FLOATS,
            layers=st.lists(NAMES, min_size=L, max_size=L).map(tuple),
            layer_trace=st.none() | arrays(L),
            layer_stderr=st.none() | arrays(L),
            layer_interval=st.none() | arrays(L, 2),
            layer_frobenius_squared_interval=st.none() | arrays(L, 2),
            frobenius_squared_interval=st.none() | st.tuples(FLOATS, FLOATS),
            frobenius_squared=st.none() | FLOATS,
            frobenius_squared_stderr=st.none() | FLOATS,
            layer_frobenius_squared=st.none() | arrays(L),
            layer_frobenius_squared_stderr=st.none() | arrays(L),
            reason=st.text(),
        )
    )


# NaN stands for None in the file: no function of a spectrum has a figure that is NaN.
FIGURES = st.none() | st.floats(allow_nan=False)
FUNCTIONS = st.builds(
    SpectralFunction,
    name=NAMES,
    parameter=FIGURES,
    value=FIGURES,
    interval=st.none() | st.tuples(*[st.floats(allow_nan=False)] * 2),
    detail=NAMES,
)


@st.composite
def densities(draw: st.DrawFn, layer: str = "") -> DensityEstimate:
    n, m, g, d, t = (draw(st.integers(0, 3)) for _ in range(5))
    return draw(
        st.builds(
            DensityEstimate,
            nodes=arrays(n, m),
            weights=arrays(n, m),
            squared_lengths=arrays(n),
            couplings=arrays(n),
            deflated=arrays(d),
            deflated_errors=arrays(d),
            grid=arrays(g),
            density=arrays(g),
            cumulative_interval=arrays(g, 2),
            sigma=FLOATS,
            size=st.integers(1, 2**40),
            ends=st.tuples(FLOATS, FLOATS),
            reorthogonalized=st.booleans(),
            zero_band=FLOATS,
            least_level=FLOATS,
            count_interval=arrays(4, 2),
            levels=arrays(t),
            beyond_interval=arrays(2, t, 2),
            functions=st.lists(FUNCTIONS, max_size=3).map(tuple),
            confidence=FLOATS,
            method=NAMES,
            outliers=arrays(draw(st.integers(0, 3))),
            outcome=OUTCOMES,
            hvps=st.integers(0, 2**40),
            hvps_by_stage=st.dictionaries(st.text(), st.integers(0, 2**40), max_size=3),
            seconds=FLOATS,
            noise=FLOATS,
            layer=st.just(layer),
        )
    )


@st.composite
def density_runs(draw: st.DrawFn) -> DensityRun:
    names = draw(st.just([""]) | st.lists(NAMES.filter(bool), min_size=1, max_size=3))
    return estimates.density_run(*(draw(densities(name)) for name in names))


@st.composite
def diagonals(draw: st.DrawFn) -> DiagonalEstimate:
    P, L, q = draw(st.integers(1, 4)), draw(st.integers(0, 4)), draw(st.integers(0, 4))
    return draw(
        st.builds(
            DiagonalEstimate,
            diagonal=arrays(P),
            diagonal_stderr=arrays(P),
            layers=st.lists(NAMES, min_size=L, max_size=L).map(tuple),
            layer_size=arrays(L),
            layer_mean=arrays(L),
            layer_mean_stderr=arrays(L),
            layer_quantiles=arrays(L, q),
            levels=st.lists(FLOATS, min_size=q, max_size=q).map(tuple),
            rel_err=FLOATS,
            degrees_of_freedom=FLOATS,
            reason=st.text(),
            asked=st.none() | FLOATS,
            method=NAMES,
            probes=NAMES,
            sharing=NAMES,
            outcome=OUTCOMES,
            hvps=FLOATS,
            seconds=FLOATS,
            noise=FLOATS,
            history=st.fixed_dictionaries({"hvps": arrays(2)}) | st.just({}),
        )
    )


@st.composite
def block_spectra(draw: st.DrawFn) -> BlockSpectra:
    names = draw(st.lists(NAMES, max_size=3))
    return BlockSpectra(
        names=tuple(names),
        sizes=tuple(draw(st.integers(1, 2**40)) for _ in names),
        pairs=tuple(draw(eigenpairs()) for _ in names),
    )


ANY = st.one_of(
    traces().map(estimates.trace_run),
    density_runs(),
    diagonals().map(estimates.diag_run),
    block_spectra().map(estimates.blocks_run),
)


@FREE
@given(ANY)
def test_a_run_comes_back_whole(tmp_path: Path, run: Any) -> None:
    path = tmp_path / "run.h5"
    WRITERS[type(run)](path, run)
    assert_same(run, read_run(path))
    assert [file.name for file in tmp_path.iterdir()] == ["run.h5"]


@settings(parent=FREE, max_examples=10)
@given(ANY)
def test_every_run_opens_in_xarray(tmp_path: Path, run: Any) -> None:
    path = tmp_path / "run.h5"
    WRITERS[type(run)](path, run)
    with xr.open_datatree(path, engine="h5netcdf") as tree:
        for node in tree.subtree:
            assert not [dim for dim in node.sizes if str(dim).startswith("phony")]


@pytest.fixture(params=RUNS)
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Any]:
    run = RUNS[request.param]
    WRITERS[type(run)](tmp_path / "run.h5", run)
    return tmp_path / "run.h5", run


def test_the_header_says_how_it_ended_and_what_it_took(stored: tuple[Path, Any]) -> None:
    path, run = stored
    header: Any = peek(path)
    answer = run if isinstance(run, DensityRun) else getattr(run, "estimate", None) or run.blocks
    assert header.schema == "curvtool/2"
    assert header.outcome == "converged"
    assert header.hvps == answer.hvps
    assert type(header.hvps) is type(answer.hvps)


def test_a_damaged_file_is_a_sentence(stored: tuple[Path, Any]) -> None:
    path, _ = stored
    with h5py.File(path, "r+") as file:
        damaged = file["layers/0"] if "layers" in file else file
        for name in ("trace", "nodes", "layer_mean", "eigenvalues"):
            if name in damaged:
                del damaged[name]
    with pytest.raises(InputError, match="damaged"):
        read_run(path)


def test_another_kind_is_refused(stored: tuple[Path, Any]) -> None:
    path, _ = stored
    with pytest.raises(InputError, match=r"'spectrum', it holds kind '(trace|density|diag|spec)"):
        read_spectrum(path)


def test_xarray_sees_a_trace_by_layer_and_pass(tmp_path: Path) -> None:
    write_trace(tmp_path / "run.h5", estimates.trace_run())
    with xr.open_dataset(tmp_path / "run.h5", engine="h5netcdf") as data:
        assert float(data["trace"]) == 1241.202
        assert data["samples"].dims == ("pass", "batch")
        assert data["batch_weight"].dims == ("batch",)
        assert data["interval"].dims == ("end",)
        assert float(data["layer_trace"].sel(layer="fc")) == 702.93
        assert data["trace"].attrs["units"] == "loss / parameter^2"


def test_what_was_not_asked_for_is_absent(tmp_path: Path) -> None:
    bare = estimates.trace(
        layers=(),
        layer_trace=None,
        layer_stderr=None,
        layer_interval=None,
        frobenius_squared=None,
        layer_frobenius_squared=None,
        layer_frobenius_squared_stderr=None,
        layer_frobenius_squared_interval=None,
        frobenius_squared_interval=None,
    )
    write_trace(tmp_path / "run.h5", estimates.trace_run(bare))
    with h5py.File(tmp_path / "run.h5") as file:
        assert "layer_trace" not in file
        assert "frobenius_squared" not in file
        assert "layer_interval" not in file
        assert "abs_err" not in file.attrs


def test_xarray_selects_a_density_by_eigenvalue(tmp_path: Path) -> None:
    write_density(tmp_path / "run.h5", estimates.density_run())
    with xr.open_dataset(tmp_path / "run.h5", engine="h5netcdf") as data:
        assert data["nodes"].dims == data["weights"].dims == ("probe", "step")
        assert data["density"].dims == ("grid",)
        assert data["cumulative_interval"].dims == ("grid", "end")
        assert data["function_interval"].dims == ("function", "end")
        assert data["beyond_interval"].dims == ("sign", "level", "end")
        low, high = data["count_interval"].sel(side="positive").values
        assert 0 < low <= high < data.attrs["size"]
        assert 0 < float(data["zero_band"]) < 1
        assert float(data["density"].sel(grid=0.0, method="nearest")) > 1
        assert data.attrs["sigma"] == pytest.approx(0.128)


def test_a_density_of_an_earlier_version_is_read_without_its_errors(tmp_path: Path) -> None:
    """Schema 1 had standard errors of its probes, which were no intervals."""
    path = tmp_path / "run.h5"
    write_density(path, estimates.density_run())
    with h5py.File(path, "r+") as file:
        for name in ("zero_band", "count_interval", "cumulative_interval", "function_interval"):
            del file[name]
        file.attrs["schema"] = "curvtool/1"
        del file.attrs["digests"]
        for name in ("least_level", "ends", "hvps_by_stage", "method", "confidence"):
            del file.attrs[name]
        file.attrs["tau"] = 1e-4
        stderr = file.create_dataset("function_stderr", data=np.zeros(4))
        stderr.dims[0].attach_scale(file["function"])
    [found] = read_density(path).estimates
    assert not found.proved
    assert found.count_interval is None
    assert [f.value for f in found.functions] == [f.value for f in estimates.FUNCTIONS]
    assert all(f.interval is None for f in found.functions)
    assert found.zero_band == 1e-4


def test_each_layer_has_a_group_of_the_same_form(tmp_path: Path) -> None:
    write_density(tmp_path / "run.h5", estimates.density_run(*estimates.layer_densities()))
    with xr.open_datatree(tmp_path / "run.h5", engine="h5netcdf") as tree:
        assert list(tree["layers"].to_dataset()["layer"].values) == list(estimates.LAYERS)
        fc = tree["layers/5"]
        assert fc.attrs["layer"] == "fc"
        assert fc.attrs["size"] == 513_000
        assert fc["density"].dims == ("grid",)


def test_xarray_sees_a_diagonal_by_parameter_and_layer(tmp_path: Path) -> None:
    write_diag(tmp_path / "run.h5", estimates.diag_run())
    with xr.open_dataset(tmp_path / "run.h5", engine="h5netcdf") as data:
        assert data["diagonal"].dims == data["diagonal_stderr"].dims == ("parameter",)
        assert data["layer_quantiles"].dims == ("layer", "level")
        assert float(data["layer_quantiles"].sel(layer="fc", level=0.5)) == 1.37e-3 * 0.3


def test_spectra_of_layers_lie_in_groups(tmp_path: Path) -> None:
    write_spectrum_layers(tmp_path / "run.h5", estimates.blocks_run())
    with xr.open_datatree(tmp_path / "run.h5", engine="h5netcdf") as tree:
        assert tree["layers/2/eigenvalues"].dims == ("pair",)
        assert int(tree["layers"]["size"].sel(layer="fc")) == 513_000


def test_a_diagonal_can_be_left_in_the_file(tmp_path: Path) -> None:
    run = estimates.diag_run()
    write_diag(tmp_path / "run.h5", run)
    found = read_diag(tmp_path / "run.h5", vectors=False)
    assert found.estimate.diagonal is None
    np.testing.assert_array_equal(found.estimate.layer_mean, run.estimate.layer_mean)
    with pytest.raises(ValueError, match="read without them"):
        write_diag(tmp_path / "again.h5", found)


def test_a_diagonal_is_stored_as_it_is_in_checked_chunks(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    values = torch.ones(3_000_000, dtype=torch.float32)
    run = estimates.diag_run(
        estimates.diagonal(diagonal=values, diagonal_stderr=values, diagonal_error=values)
    )
    write_diag(tmp_path / "run.h5", run)
    with h5py.File(tmp_path / "run.h5") as file:
        stored = file["diagonal"]
        assert stored.dtype == np.float32
        assert stored.fletcher32
        assert 2**20 <= stored.chunks[0] * 4 <= 16 * 2**20
        assert stored[-1] == 1


def test_eigenvectors_of_blocks_can_be_left_in_the_file(tmp_path: Path) -> None:
    pairs = runs.pairs([2.0, 1.0], eigenvectors=np.eye(2, 5))
    found = BlockSpectra(names=("a/b",), sizes=(5,), pairs=(pairs,))
    write_spectrum_layers(tmp_path / "run.h5", estimates.blocks_run(found))
    whole = read_spectrum_layers(tmp_path / "run.h5").blocks
    assert whole.names == ("a/b",)
    np.testing.assert_array_equal(whole.pairs[0].eigenvectors, np.eye(2, 5))
    light = read_spectrum_layers(tmp_path / "run.h5", eigenvectors=False).blocks
    assert light.pairs[0].eigenvectors is None


@pytest.mark.parametrize(
    "run",
    [
        estimates.trace_run(estimates.trace(batch_weight=np.ones(3))),
        estimates.trace_run(estimates.trace(layer_stderr=np.ones(3))),
        estimates.density_run(estimates.density(weights=np.ones((2, 2)))),
        estimates.density_run(estimates.density(cumulative_interval=np.ones(2))),
        estimates.density_run(estimates.density(deflated_errors=np.ones(2))),
        estimates.density_run(estimates.density(count_interval=np.ones((3, 2)))),
        estimates.density_run(estimates.density(), estimates.density(layer="fc")),
        dataclasses.replace(estimates.density_run(), estimates=()),
        estimates.diag_run(estimates.diagonal(diagonal_stderr=np.ones(3))),
        estimates.diag_run(estimates.diagonal(layer_quantiles=np.ones((6, 2)))),
        estimates.diag_run(estimates.diagonal(history={"a/b": np.ones(2)})),
        estimates.blocks_run(dataclasses.replace(estimates.blocks(), sizes=(1,))),
    ],
    ids=lambda run: type(run).__name__,
)
def test_shapes_that_do_not_fit_are_refused_before_writing(run: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"write_\w+ needs"):
        WRITERS[type(run)](tmp_path / "run.h5", run)
    assert not list(tmp_path.iterdir())


def test_readers_refuse_other_kinds_by_name(tmp_path: Path) -> None:
    write_trace(tmp_path / "run.h5", estimates.trace_run())
    for reader in (read_density, read_diag, read_spectrum_layers):
        with pytest.raises(InputError, match="it holds kind 'trace'"):
            reader(tmp_path / "run.h5")
    write_density(tmp_path / "run.h5", estimates.density_run())
    with pytest.raises(InputError, match="it holds kind 'density'"):
        read_trace(tmp_path / "run.h5")
