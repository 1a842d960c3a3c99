"""The main job from the user's seat: what is printed where, and what the file holds."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import h5py
import numpy as np
import pytest

from curvtool.cli.app import run
from curvtool.errors import ExitCode
from curvtool.storage.spectrum import write_spectrum
from tests import runs
from tests.cli.calls import MLP, QUICK, Ended, call, left
from tests.cli.problems import write_problem

FILE = "digits_mlp.spectrum.h5"


@pytest.fixture(scope="module")
def solved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    """The folder and the output of one solve."""
    folder = tmp_path_factory.mktemp("solved")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return folder, call("spectrum", *QUICK)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_solve_ends_well_and_leaves_one_file(solved: tuple[Path, Ended]) -> None:
    folder, ended = solved
    assert ended.code == ExitCode.DONE
    assert left(folder) == [FILE]


def test_the_report_is_on_stdout_and_progress_on_stderr(solved: tuple[Path, Ended]) -> None:
    _, ended = solved
    assert "2 eigenvalues, largest in magnitude" in ended.out
    assert "all converged" in ended.out
    assert "curvtool: " not in ended.out
    assert all(line.startswith("curvtool: ") for line in ended.err.splitlines())
    assert "solving" in ended.err
    assert ended.err.splitlines()[-1] == f"curvtool: written to {FILE}"


def test_off_a_terminal_lines_are_plain_and_fit_80_columns(solved: tuple[Path, Ended]) -> None:
    _, ended = solved
    assert "\x1b" not in ended.out + ended.err
    assert "\r" not in ended.out + ended.err
    assert max(map(len, ended.out.splitlines())) <= 80


_JSON = ("config", "problem", "plan", "preflight", "environment", "completeness", "digests")


def test_the_file_holds_what_the_schema_says(solved: tuple[Path, Ended]) -> None:
    folder, _ = solved
    with h5py.File(folder / FILE) as file:
        assert file.attrs["schema"] == "curvtool/2"
        assert file.attrs["kind"] == "spectrum"
        assert file.attrs["outcome"] == "converged"
        assert file.attrs["hvps"] > 0
        assert file.attrs["seconds"] > 0
        for name in ("curvtool_version", "created"):
            assert file.attrs[name]
        for name in _JSON:
            assert isinstance(json.loads(file.attrs[name]), dict)
        environment = json.loads(file.attrs["environment"])
        assert len(environment["checkpoint_sha256"]) == 64
        assert len(environment["data_sha256"]) == 64
        values = file["eigenvalues"][...]
        for name in ("eigenvalues", "residual_norms", "eigenvalue_errors", "converged", "at_floor"):
            assert file[name].shape == (2,)
            assert file[name].dims[0][0].name == "/pair"
        assert "eigenvectors" not in file
        assert len(file["history"]) > 0
        names = file["parameters/name"].asstr()[...]
        assert sum(file["parameters/size"][...]) == 5018
    assert abs(values[0]) >= abs(values[1])
    assert names[0] == "layers.0.weight"


def test_show_prints_the_same_report_without_torch(solved: tuple[Path, Ended]) -> None:
    folder, ended = solved
    code = textwrap.dedent(f"""
        import sys
        from curvtool.cli.app import run
        code = run(["show", "{FILE}"])
        sys.stdout.flush()
        assert code == 0, code
        assert "torch" not in sys.modules
        """)
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, check=True, text=True
    )
    assert shown.stdout == ended.out
    assert not shown.stderr


def test_json_prints_one_object_and_nothing_else(here: Path) -> None:
    ended = call("spectrum", *QUICK, "--json")
    assert ended.code == ExitCode.DONE
    found = json.loads(ended.out)
    assert found["all_converged"] is True
    with h5py.File(here / FILE) as file:
        np.testing.assert_array_equal(found["eigenvalues"], file["eigenvalues"][...])
    assert ended.err
    assert json.loads(call("show", FILE, "--json").out) == found


def test_json_stays_alone_on_stdout_when_a_hook_prints(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    problem = [word.replace(":build", ":talking") for word in write_problem(here)]
    capfd.readouterr()
    assert run([*problem, "--json", "-k", "1"]) == ExitCode.DONE
    captured = capfd.readouterr()
    assert json.loads(captured.out)["kind"] == "spectrum"
    assert "talking" in captured.err


def test_quiet_leaves_stderr_empty(here: Path) -> None:
    ended = call("spectrum", *QUICK, "-q")
    assert ended.code == ExitCode.DONE
    assert not ended.err
    assert "2 eigenvalues" in ended.out


def test_every_pair_is_found_and_verbose_lists_them(here: Path) -> None:
    ended = call(*write_problem(here), "--all")
    assert ended.code == ExitCode.DONE
    assert "26 eigenvalues" in ended.out
    write_spectrum(here / "many.h5", runs.run(runs.pairs(runs.spectrum(60))))
    brief, whole = call("show", "many.h5").out, call("show", "many.h5", "-v").out
    assert len(whole.splitlines()) >= 60 > len(brief.splitlines()) - 20


def test_vectors_are_stored_on_request(here: Path) -> None:
    assert call("spectrum", *QUICK, "--vectors", "-o", "vectors.h5").code == ExitCode.DONE
    with h5py.File(here / "vectors.h5") as file:
        vectors = file["eigenvectors"][...]
    assert vectors.shape == (2, 5018)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_the_last_of_repeated_options_wins(here: Path) -> None:
    ended = call("spectrum", *QUICK, "-k", "1", "--json", "-q")
    assert len(json.loads(ended.out)["eigenvalues"]) == 1


@pytest.mark.parametrize("which", ["LM", "LA", "SA", "BE", "sa"])
def test_orders_are_those_of_the_design(here: Path, which: str) -> None:
    ended = call(*write_problem(here), "--which", which, "-k", "3", "--json", "-q")
    values = json.loads(ended.out)["eigenvalues"]
    key = {"LM": lambda v: -abs(v), "SA": lambda v: v}.get(which.upper(), lambda v: -v)
    assert values == sorted(values, key=key)


def test_the_checkpoint_may_lie_anywhere(here: Path) -> None:
    (here / "deep").mkdir()
    write_problem(here / "deep")
    (here / "deep" / "net.pt").rename(here / "deep" / "net éà 1.pt")
    ended = call(
        *("spectrum", Path("deep") / "net éà 1.pt", "--model", "deep/hooks.py:build"),
        *("--data", "npz:deep/data.npz", "--loss", "cross_entropy", "-k", "1"),
    )
    assert ended.code == ExitCode.DONE
    assert (here / "net éà 1.spectrum.h5").is_file()
    assert "net éà 1.pt" in ended.out


def test_too_few_products_are_told_marked_and_stored(here: Path) -> None:
    ended = call("spectrum", str(MLP), "--max-examples", "100", "-k", "4", "--max-hvps", "5")
    assert ended.code == ExitCode.NOT_CONVERGED
    assert "NOT CONVERGED" in ended.out
    assert "all converged" not in ended.out
    with h5py.File(here / FILE) as file:
        assert file.attrs["outcome"] == "max_hvps"
        assert file.attrs["hvps"] <= 5
        assert not file["converged"][...].all()
    assert "NOT CONVERGED" in call("show", FILE).out
