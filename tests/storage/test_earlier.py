"""Files of the first schema: they open, and nothing that was not proved passes for proved."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from curvtool.results import (
    WHOLE_MATRIX,
    Certification,
    EigenPairs,
    Outcome,
    SpectrumBlocksRun,
    SpectrumRun,
    TrackRun,
    unproved,
)
from curvtool.results.completeness import EARLIER
from curvtool.storage.run import read_run
from curvtool.storage.spectrum import write_spectrum
from curvtool.storage.spectrum_layers import write_spectrum_layers
from curvtool.storage.track import write_track
from tests import estimates, runs, sweeps


def as_first_schema(path: Path, *, completeness: str, accuracy: str = "values") -> None:
    """Make of a run file what the version before would have written."""
    with h5py.File(path, "r+") as file:
        file.attrs["schema"] = "curvtool/1"
        del file.attrs["digests"]
        layers = file.get("layers", {})
        for group in [file, *(item for item in layers.values() if isinstance(item, h5py.Group))]:
            if "at_floor" not in group:
                continue
            # A pair at the floor counted as one that met the tolerance.
            group["converged"][...] = group["converged"][...] | group["at_floor"][...]
            for name in ("at_floor", "complete", "proved_rank"):
                if name in group:
                    del group[name]
            if "completeness" in group.attrs:
                group.attrs["completeness"] = completeness
                group.attrs["certification"] = "combinations"
                group.attrs["accuracy"] = accuracy
                if group.attrs["outcome"] == "floor":
                    group.attrs["outcome"] = "converged"


def written(path: Path, pairs: EigenPairs, *, completeness: str, accuracy: str) -> EigenPairs:
    write_spectrum(path, runs.run(pairs))
    as_first_schema(path, completeness=completeness, accuracy=accuracy)
    found = read_run(path)
    assert isinstance(found, SpectrumRun)
    return found.pairs


@pytest.mark.parametrize("word", ["probed", "missing", "not_probed"])
def test_what_a_probe_said_is_not_proved(word: str, tmp_path: Path) -> None:
    pairs = runs.pairs([3.0, 2.0], errors=[1e-5, 1e-5])
    found = written(tmp_path / "a.h5", pairs, completeness=word, accuracy="values")
    assert found.completeness == unproved(EARLIER)
    assert found.certification is Certification.COMBINATIONS
    assert found.outcome is Outcome.CONVERGED
    assert not found.at_floor.any()


def test_a_whole_matrix_is_one_still(tmp_path: Path) -> None:
    pairs = runs.pairs([3.0, 2.0], errors=[0.0, 0.0])
    found = written(tmp_path / "a.h5", pairs, completeness="exhaustive", accuracy="values")
    assert found.completeness == WHOLE_MATRIX


def test_values_that_met_the_floor_alone_did_not_meet_the_tolerance(tmp_path: Path) -> None:
    # A tolerance of 1e-4 allows 3e-4, 2e-4 and 1e-4.
    errors = [2.9e-4, 2.1e-4, 2e-4]
    pairs = runs.pairs([3.0, 2.0, 1.0], errors=errors, unconverged=[2])
    found = written(tmp_path / "a.h5", pairs, completeness="probed", accuracy="values")
    assert found.converged.tolist() == [True, False, False]
    assert found.at_floor.tolist() == [False, True, False]  # the last one is open, not stopped
    assert found.outcome is Outcome.MAX_HVPS
    pairs = runs.pairs([3.0, 2.0, 1.0], errors=errors, at_floor=[1])
    found = written(tmp_path / "b.h5", pairs, completeness="probed", accuracy="values")
    assert found.converged.tolist() == [True, False, False]
    assert found.at_floor.tolist() == [False, True, True]
    assert found.outcome is Outcome.FLOOR


def test_of_vectors_the_residual_without_the_noise_was_judged(tmp_path: Path) -> None:
    noise = runs.NOISE * 3.0
    pairs = runs.pairs([3.0, 2.0], errors=[1.0, 1.0])
    met, above = 1e-4 * 3.0 + noise / 2, 1e-4 * 2.0 + 2 * noise
    pairs = EigenPairs(**vars(pairs) | {"residual_norms": np.array([met, above])})
    found = written(tmp_path / "a.h5", pairs, completeness="probed", accuracy="vectors")
    assert found.converged.tolist() == [True, False]
    assert found.at_floor.tolist() == [False, True]


def test_layers_are_told_apart_each_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    write_spectrum_layers(path, estimates.blocks_run())
    as_first_schema(path, completeness="probed")
    found = read_run(path)
    assert isinstance(found, SpectrumBlocksRun)
    assert all(pairs.completeness == unproved(EARLIER) for pairs in found.blocks.pairs)


def test_a_summary_of_a_sweep_is_read(tmp_path: Path) -> None:
    path = tmp_path / "summary.h5"
    write_track(path, sweeps.sweep())
    as_first_schema(path, completeness="")
    found = read_run(path)
    assert isinstance(found, TrackRun)
    row = found.rows[0]
    assert row.converged.tolist() == [True, True, True]
    assert row.at_floor.tolist() == [False, False, False]
    assert not row.complete


def test_a_sweep_on_values_tells_the_floor_apart(tmp_path: Path) -> None:
    path = tmp_path / "summary.h5"
    row = sweeps.row(eigenvalue_errors=np.array([1e-3, 9e-3, 1e-3]))  # 1e-3 allows 9.12e-3, 5e-4
    write_track(path, sweeps.sweep(row, accuracy="values"))
    as_first_schema(path, completeness="")
    found = read_run(path)
    assert isinstance(found, TrackRun)
    assert found.rows[0].converged.tolist() == [True, True, False]
    assert found.rows[0].at_floor.tolist() == [False, False, True]
    assert found.rows[0].outcome is Outcome.FLOOR
