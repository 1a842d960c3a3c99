"""`density` from the user's seat.

Letters: P parameters.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from curvtool.errors import ExitCode
from curvtool.results import FloatArray
from tests.cli.calls import MLP, Ended, call, left, refusal

FILE = "digits_mlp.density.h5"
QUICK = (str(MLP), "--max-examples", "60", "--batch-size", "20")
# Of 5,018 parameters; the short solve before the probes takes out 8 of 8.
SHORT = ("density", *QUICK, "-n", "3", "-m", "12", "--deflate", "8")
# The last layer: few enough parameters for the whole matrix, and a loss that is convex in them.
P = 330
LAST = (*QUICK, "--params", "layers.2*", "--dtype", "float64")
PROBED = ("-n", "3", "-m", "20", "--deflate", "10")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    """The folder and the output of one run."""
    folder = tmp_path_factory.mktemp("printed")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return folder, call(*SHORT)


def eigenvalues(folder: Path, *arguments: str) -> FloatArray:
    """Of the last layer's block: shape (P,)."""
    path = folder / "all.h5"
    assert call("spectrum", *LAST, *arguments, "--all", "-o", path).code == ExitCode.DONE
    with h5py.File(path) as file:
        return np.asarray(file["eigenvalues"][...])


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> FloatArray:
    """The same under the seed that draws the examples by default."""
    return eigenvalues(tmp_path_factory.mktemp("matrix"))


def answer(*arguments: str) -> dict[str, Any]:
    ended = call(*arguments, "--json", "-q")
    assert ended.code == ExitCode.DONE, ended.err
    found: dict[str, Any] = json.loads(ended.out)
    return found


def only(found: dict[str, Any]) -> dict[str, Any]:
    estimates: list[dict[str, Any]] = found["estimates"]
    assert len(estimates) == 1
    return estimates[0]


def test_a_density_prints_a_report_and_leaves_one_file(printed: tuple[Path, Ended]) -> None:
    folder, ended = printed
    assert ended.code == ExitCode.DONE
    for words in ("3 probes of 12 steps", "sign undetermined", "Functions of the spectrum"):
        assert words in ended.out
    assert max(map(len, ended.out.splitlines())) <= 80
    assert "\x1b" not in ended.out
    assert all(line.startswith("curvtool: ") for line in ended.err.splitlines())
    assert left(folder) == [FILE]
    assert call("show", folder / FILE).out == ended.out
    again = call(*SHORT, "-o", folder / FILE)
    assert again.out == ended.out
    assert "already in" in again.err


def test_the_file_holds_nodes_and_limits_by_name(printed: tuple[Path, Ended]) -> None:
    folder, _ = printed
    with h5py.File(folder / FILE) as file:
        assert file.attrs["kind"] == "density"
        assert file.attrs["outcome"] == "converged"
        stages = json.loads(file.attrs["hvps_by_stage"])
        assert stages["probe"] == 3 * 12
        assert file.attrs["hvps"] == sum(stages.values())
        for name in ("nodes", "weights"):
            assert file[name].shape == (3, 12)
            scales = [dimension[0].name for dimension in file[name].dims]
            assert scales == ["/probe", "/step"]
        for name, over in (
            ("density", ["/grid"]),
            ("cumulative_interval", ["/grid", "/end"]),
            ("function_interval", ["/function", "/end"]),
            ("count_interval", ["/side", "/end"]),
        ):
            assert [dimension[0].name for dimension in file[name].dims] == over
        assert file["zero_band"][()] > 0
        # A measure of mass 1: rows are normalised in float64.
        assert file["weights"][...].sum(axis=1) == pytest.approx(1, abs=1e-12)
        # The grid ends 5 sigma beyond the nodes, where 6e-7 of a Gaussian is left; points are
        # less than sigma apart, and the trapezoidal rule of a Gaussian then misses
        # 2 exp(-2 pi^2 (sigma / h)^2) < 1e-8.
        grid, sigma = file["grid"][...], float(file.attrs["sigma"])
        assert np.diff(grid).max() < sigma
        assert np.trapezoid(file["density"][...], grid) == pytest.approx(1, abs=1e-6)


def expected(function: dict[str, Any], values: FloatArray) -> float:
    p = function["parameter"]
    if function["name"] == "trace":
        return float(values.sum())
    if function["name"] == "Schatten norm":
        return float((np.abs(values) ** p).sum() ** (1 / p))
    positive = np.maximum(values, 0)
    if function["name"] == "effective dimension":
        return float((positive / (positive + p)).sum())
    return float(np.log(positive + p).sum())


def held(found: dict[str, Any], values: FloatArray) -> list[bool]:
    """Whether each figure of one estimate holds the truth."""
    slack = 1e-9 * float(np.abs(values).sum())
    hits = [
        f["interval"][0] - slack <= expected(f, values) <= f["interval"][1] + slack
        for f in found["functions"]
        if f["value"] is not None
    ]
    t = found["zero_band"]
    for side, where in (
        ("negative", values < -t),
        ("undetermined", np.abs(values) <= t),
        ("positive", values > t),
        ("rank", np.abs(values) > t),
    ):
        low, high = found["counts"][side]
        hits.append(low <= where.sum() <= high)
    return hits


def test_a_small_matrix_is_written_out(matrix: FloatArray) -> None:
    found = only(
        answer(
            *("density", *LAST, "-n", "10", "-m", "40"),
            *("--damping", "0.01", "--damping", "1.0", "--schatten", "3"),
        )
    )
    assert found["method"] == "dense"
    assert found["size"] == P
    assert all(held(found, matrix))
    names = [(f["name"], f["parameter"]) for f in found["functions"]]
    assert names == [
        ("trace", None),
        ("Schatten norm", 3.0),
        ("effective dimension", 0.01),
        ("log-determinant", 0.01),
        ("effective dimension", 1.0),
        ("log-determinant", 1.0),
    ]
    for f in found["functions"]:
        low, high = f["interval"]
        assert 0 < high - low < 1e-6 * abs(f["value"])


def test_figures_of_probes_hold_the_truth_of_the_matrix(tmp_path: Path) -> None:
    hits: list[bool] = []
    for seed in range(3):
        folder = tmp_path / str(seed)
        folder.mkdir()
        matrix = eigenvalues(folder, "--seed", str(seed))  # which draws the examples, too
        found = only(
            answer(
                *("density", *LAST, *PROBED, "--seed", str(seed), "-o", f"{seed}.h5"),
                *("--damping", "1e-3", "--damping", "1e-8"),
            )
        )
        assert found["method"] == "probes"
        assert len(found["deflated"]) > 4
        hits += held(found, matrix)
    # 33 figures of 95 %: seven misses or more happen once in 1,000.
    assert len(hits) == 33
    assert hits.count(False) <= 6


def test_float32_noise_is_in_the_limits(matrix: FloatArray) -> None:
    """The damping lies below the noise of the product: the limits are wide, and hold."""
    arguments = [a for a in LAST if a not in {"--dtype", "float64"}]
    found = only(answer("density", *arguments, *PROBED, "--damping", "1e-8"))
    assert sum(not hit for hit in held(found, matrix)) <= 2
    kinds = {f["name"]: f for f in found["functions"]}
    low, high = kinds["effective dimension"]["interval"]
    assert high - low > 50


def test_a_matrix_with_negative_eigenvalues_has_no_log_determinant() -> None:
    found = only(answer(*SHORT, "--damping", "0.1"))
    kinds = {f["name"]: f for f in found["functions"]}
    for name in ("effective dimension", "log-determinant"):
        assert kinds[name]["value"] is None
        assert kinds[name]["interval"] is None
        assert "no meaning" in kinds[name]["detail"]
    unasked = only(answer(*SHORT, "-o", "unasked.h5"))
    assert [f["name"] for f in unasked["functions"]] == ["trace", "Schatten norm", "Schatten norm"]


def test_a_threshold_is_what_is_counted_beyond(matrix: FloatArray) -> None:
    threshold = float(np.quantile(matrix, 0.9))
    found = only(answer("density", *LAST, *PROBED, "--threshold", repr(threshold)))
    assert found["zero_band"] == threshold
    low, high = found["counts"]["rank"]
    assert low <= (np.abs(matrix) > threshold).sum() <= high


def test_an_accuracy_that_is_not_reached_is_no_success() -> None:
    limits = ("--rel-err", "1e-6", "--max-hvps", "320")
    ended = call("density", *LAST, *PROBED, *limits, "--json", "-q")
    assert ended.code == ExitCode.NOT_CONVERGED
    assert json.loads(ended.out)["outcome"] != "converged"


def test_outliers_come_from_a_run_of_the_same_matrix() -> None:
    top = answer("spectrum", *QUICK, "-k", "3", "-o", "top.h5")
    found = only(answer(*SHORT, "--outliers", "top.h5"))
    assert found["outliers"] == top["eigenvalues"]
    for option, value in (("--weight-decay", "0.1"), ("--params", "layers.2*")):
        said = refusal(*SHORT, option, value, "--outliers", "top.h5", "-o", "other.h5")
        assert "same matrix" in said
        assert option in said
    said = refusal(*SHORT, "--outliers", FILE, "-o", "other.h5")
    assert "density" in said


def test_every_layer_gets_the_density_of_its_block(matrix: FloatArray) -> None:
    # 330 parameters are fewer than the products of these probes.
    many = ("density", *QUICK, "-n", "12", "-m", "30", "--deflate", "8")
    ended = call(*many, "--per-layer", "--dtype", "float64")
    assert ended.code == ExitCode.DONE
    assert max(map(len, ended.out.splitlines())) <= 80
    assert call("show", FILE).out == ended.out
    found = answer(*many, "--per-layer", "--dtype", "float64")
    layers = {estimate["layer"]: estimate for estimate in found["estimates"]}
    assert list(layers) == ["layers.0", "layers.1", "layers.2"]
    assert (
        sum(estimate["size"] for estimate in layers.values()) == found["problem"]["num_parameters"]
    )
    assert [estimate["method"] for estimate in layers.values()] == ["probes", "probes", "dense"]
    assert all(held(layers["layers.2"], matrix))
    for name in layers:
        assert name in ended.out


def test_groups_make_layers() -> None:
    found = answer(*SHORT, "--per-layer", "--group", "bias|weight")
    assert [e["method"] for e in found["estimates"]] == ["probes", "probes"]
    sizes = {estimate["layer"]: estimate["size"] for estimate in found["estimates"]}
    assert sizes == {"weight": 64 * 48 + 48 * 32 + 32 * 10, "bias": 48 + 32 + 10}
    said = refusal(*SHORT, "--per-layer", "--group", "nowhere", "-o", "other.h5")
    assert "matches none" in said


def test_bases_that_are_not_kept_orthogonal_are_labelled() -> None:
    ended = call(*SHORT, "--dtype", "float64", "--no-reorthogonalize")
    assert ended.code == ExitCode.DONE
    said = " ".join(ended.out.split())
    assert "NOT kept orthogonal, as asked" in said
    assert "for want of memory" not in said
    found = only(answer(*SHORT, "--dtype", "float64", "--no-reorthogonalize"))
    assert found["reorthogonalized"] is False


def test_little_memory_takes_nothing_out_and_keeps_no_basis() -> None:
    # 5,018 float32 numbers a vector: 20 KB each; ten of them and the working ones.
    ended = call(*SHORT, "--memory", "380KiB")
    assert ended.code == ExitCode.DONE, ended.err
    said = " ".join(ended.out.split())
    assert "for want of memory" in said
    assert "taken out ·" not in said


def test_the_width_is_a_choice_of_display() -> None:
    narrow = only(answer(*SHORT, "--sigma", "0.01"))
    wide = only(answer(*SHORT, "--sigma", "1.0", "--force"))
    assert (narrow["sigma"], wide["sigma"]) == (0.01, 1.0)
    assert narrow["nodes"] == wide["nodes"]
    assert narrow["weights"] == wide["weights"]
    assert max(narrow["density"]) > max(wide["density"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--sigma", "0"), "positive"),
        (("--sigma", "nan"), "positive"),
        (("--damping", "-1"), "positive"),
        (("--damping", "1", "--damping", "inf"), "positive"),
        (("--schatten", "0"), "positive"),
        (("--threshold", "-1"), "not negative"),
        (("--threshold", "nan"), "--threshold"),
        (("--outliers", "b.h5", "--per-layer"), "--per-layer"),
        (("--group", "x"), "--per-layer"),
        (("--per-layer", "--group", "("), "regular expression"),
        (("--num-probes", "0"), "greater than or equal to 1"),
        (("--steps", "0"), "greater than or equal to 1"),
        (("--deflate", "-1"), "greater than or equal to 0"),
        (("--rel-err", "0"), "positive"),
        (("--probes", "rademacher"), "No such option"),
    ],
)
def test_contradictions_are_judged_before_anything_is_opened(
    arguments: tuple[str, ...], said: str
) -> None:
    ended = call("density", "a.pt", *arguments)
    assert ended.code == ExitCode.USAGE
    assert said in ended.err
    assert len(ended.err.splitlines()) == 1
