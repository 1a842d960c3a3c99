"""`density` from the user's seat.

Letters: P parameters, n probes, m steps.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from curvtool.errors import ExitCode
from curvtool.random_vectors import streams
from curvtool.random_vectors.purposes import Purpose
from curvtool.results import FloatArray
from tests.cli.calls import MLP, Ended, call, left, refusal

FILE = "digits_mlp.density.h5"
QUICK = (str(MLP), "--max-examples", "60", "--batch-size", "20")
SHORT = ("density", *QUICK, "-n", "3", "-m", "12")
# The last layer: few enough parameters for the whole matrix, and a loss that is convex in them.
P = 330
LAST = (*QUICK, "--params", "layers.2*", "--dtype", "float64")
NUM_PROBES, STEPS = 3, 60


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


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> tuple[FloatArray, FloatArray]:
    """Eigenvalues (P,) and eigenvectors (P, P), as rows, of the last layer's block."""
    path = tmp_path_factory.mktemp("matrix") / "all.h5"
    assert call("spectrum", *LAST, "--all", "--vectors", "-o", path).code == ExitCode.DONE
    with h5py.File(path) as file:
        return file["eigenvalues"][...], file["eigenvectors"][...]


def answer(*arguments: str) -> dict[str, Any]:
    ended = call(*arguments, "--json", "-q")
    assert ended.code == ExitCode.DONE, ended.err
    found: dict[str, Any] = json.loads(ended.out)
    return found


def only(found: dict[str, Any]) -> dict[str, Any]:
    estimates: list[dict[str, Any]] = found["estimates"]
    assert len(estimates) == 1
    return estimates[0]


def moments(estimate: dict[str, Any], degree: int) -> FloatArray:
    """Of every probe: shape (n,)."""
    nodes = np.array(estimate["nodes"], dtype=float)  # None becomes NaN
    weights = np.array(estimate["weights"])
    return np.asarray(np.where(np.isfinite(nodes), weights * nodes**degree, 0.0).sum(axis=1))


def shares(matrix: tuple[FloatArray, FloatArray], size: int) -> FloatArray:
    """(v_i'z)^2 / P of every eigenvector under every probe of seed 0: shape (n, P)."""
    _, rows = matrix
    z_nP = [streams.signs(Purpose.QUADRATURE, i, seed=0, size=size) for i in range(NUM_PROBES)]
    return np.asarray((torch.stack(z_nP).numpy() @ rows.T) ** 2 / size)


def test_a_density_prints_a_report_and_leaves_one_file(printed: tuple[Path, Ended]) -> None:
    folder, ended = printed
    assert ended.code == ExitCode.DONE
    for words in ("3 probes of 12 steps", "% of all", "Functions of the spectrum"):
        assert words in ended.out
    assert max(map(len, ended.out.splitlines())) <= 80
    assert "\x1b" not in ended.out
    assert all(line.startswith("curvtool: ") for line in ended.err.splitlines())
    assert left(folder) == [FILE]
    assert call("show", folder / FILE).out == ended.out
    again = call(*SHORT, "-o", folder / FILE)
    assert again.out == ended.out
    assert "already in" in again.err


def test_the_file_holds_nodes_and_weights_by_name(printed: tuple[Path, Ended]) -> None:
    folder, _ = printed
    with h5py.File(folder / FILE) as file:
        assert file.attrs["kind"] == "density"
        assert file.attrs["outcome"] == "converged"
        assert file.attrs["hvps"] == 3 * 12
        for name in ("nodes", "weights"):
            assert file[name].shape == (3, 12)
            scales = [dimension[0].name for dimension in file[name].dims]
            assert scales == ["/probe", "/step"]
        assert file["density"].dims[0][0].name == "/grid"
        # A measure of mass 1: rows are normalised in float64.
        assert file["weights"][...].sum(axis=1) == pytest.approx(1, abs=1e-12)
        # The grid ends 5 sigma beyond the nodes, where 6e-7 of a Gaussian is left; points are
        # less than sigma apart, and the trapezoidal rule of a Gaussian then misses
        # 2 exp(-2 pi^2 (sigma / h)^2) < 1e-8.
        grid, sigma = file["grid"][...], float(file.attrs["sigma"])
        assert np.diff(grid).max() < sigma
        assert np.trapezoid(file["density"][...], grid) == pytest.approx(1, abs=1e-6)


def test_nodes_and_weights_have_the_moments_of_the_matrix(
    matrix: tuple[FloatArray, FloatArray],
) -> None:
    found = only(answer("density", *LAST, "-n", str(NUM_PROBES), "-m", "4"))
    eigenvalues, _ = matrix
    largest = float(np.abs(eigenvalues).max())
    each = shares(matrix, P)
    for degree in range(8):  # up to 2 m - 1
        # z'H^k z / P; each of k products is wrong by delta |H|, in float64 some 1e-15, and both
        # sides carry the roundings of some hundred sums.
        expected = each @ eigenvalues**degree
        allowed = 100 * max(degree, 1) * max(found["noise"], 1e-15) * largest**degree
        assert moments(found, degree) == pytest.approx(expected, abs=allowed, rel=0)
        # Over probes: var z'Az <= 2 |A|_F^2 for A = H^k; seven standard deviations.
        spread = np.sqrt(2 * (eigenvalues ** (2 * degree)).sum() / NUM_PROBES) / P
        apart = abs(moments(found, degree).mean() - (eigenvalues**degree).mean())
        assert apart <= 7 * spread
    assert abs(moments(found, 8) - each @ eigenvalues**8).max() > 1e-9 * largest**8


def test_functions_are_those_of_the_matrix(matrix: tuple[FloatArray, FloatArray]) -> None:
    eigenvalues, _ = matrix
    order = np.sort(eigenvalues)[::-1]
    largest = float(order[0])
    assert order[-1] > -1e-12 * largest
    # Among the leading eigenvalues, whose nodes have converged, the widest gap.
    at = int(np.argmax(order[:8] / order[1:9]))
    threshold = float(np.sqrt(order[at] * order[at + 1]))
    damping = 0.1 * largest
    found = only(
        answer(
            *("density", *LAST, "-n", str(NUM_PROBES), "-m", str(STEPS)),
            *("--damping", repr(damping), "--damping", "1.0", "--schatten", "3"),
            *("--threshold", repr(threshold)),
        )
    )
    functions = {(f["name"], f["parameter"]): f for f in found["functions"]}
    assert len(functions) == len(found["functions"]) == 2 * 2 + 1 + 1
    each = P * shares(matrix, P)
    positive = np.maximum(eigenvalues, 0)
    expected = {("rank", threshold): each @ (eigenvalues > threshold)}
    for a in (damping, 1.0):
        expected["effective dimension", a] = each @ (positive / (positive + a))
        expected["log-determinant", a] = each @ np.log(positive + a)
    for key, sums in expected.items():
        # The quadrature of 60 steps has converged: 1 / (l + a) with a condition number of
        # largest / a + 1 is met to 2 ((sqrt(c) - 1) / (sqrt(c) + 1))^120.
        condition = largest / min(damping, 1.0) + 1
        rate = (np.sqrt(condition) - 1) / (np.sqrt(condition) + 1)
        allowed = P * max(1e-9, 2 * rate ** (2 * STEPS))
        assert functions[key]["value"] == pytest.approx(float(sums.mean()), abs=allowed), key
        stderr = float(sums.std(ddof=1)) / np.sqrt(NUM_PROBES)
        assert functions[key]["stderr"] == pytest.approx(stderr, abs=allowed), key
    cubes = float((each @ np.abs(eigenvalues) ** 3).mean())
    assert functions["Schatten norm", 3.0]["value"] == pytest.approx(cubes ** (1 / 3), rel=1e-9)


def test_a_matrix_with_negative_eigenvalues_has_no_log_determinant() -> None:
    found = only(answer(*SHORT))
    assert np.nanmin(np.array(found["nodes"], dtype=float)) < -found["tau"]
    assert found["negative_mass"] > 0
    kinds = {f["name"]: f for f in found["functions"]}
    for name in ("effective dimension", "log-determinant"):
        assert kinds[name]["value"] is None
        assert "no meaning" in kinds[name]["detail"]
    assert kinds["rank"]["parameter"] == found["tau"]


def test_what_the_nodes_allow_holds_the_truth(matrix: tuple[FloatArray, FloatArray]) -> None:
    eigenvalues, _ = matrix
    each = shares(matrix, P)
    threshold = float(np.quantile(eigenvalues, 0.4))  # in the bulk, which six nodes do not resolve
    found = only(
        answer(
            *("density", *LAST, "-n", str(NUM_PROBES), "-m", "6"),
            *("--threshold", repr(threshold)),
        )
    )
    rank = next(f for f in found["functions"] if f["name"] == "rank")
    allowed = re.search(r"allow ([\d,]+) to ([\d,]+)$", rank["detail"])
    assert allowed, rank["detail"]
    least, most = (int(end.replace(",", "")) for end in allowed.groups())
    # Of these probes' measures, whose ends are printed as whole numbers.
    truth = P * float(each.mean(axis=0)[np.abs(eigenvalues) > threshold].sum())
    assert least - 0.5 <= truth <= most + 0.5
    below, above = found["negative_mass_allowed"]
    assert below <= float(each.mean(axis=0)[eigenvalues < -found["tau"]].sum()) <= above


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


def test_every_layer_gets_the_density_of_its_block() -> None:
    ended = call(*SHORT, "--per-layer", "--dtype", "float64")
    assert ended.code == ExitCode.DONE
    assert max(map(len, ended.out.splitlines())) <= 80
    assert call("show", FILE).out == ended.out
    found = answer(*SHORT, "--per-layer", "--dtype", "float64")
    layers = {estimate["layer"]: estimate for estimate in found["estimates"]}
    assert list(layers) == ["layers.0", "layers.1", "layers.2"]
    assert (
        sum(estimate["size"] for estimate in layers.values()) == found["problem"]["num_parameters"]
    )
    assert found["hvps"] == found["plan"]["forecast"]["products"] == 3 * 3 * 12
    for name, estimate in layers.items():
        assert name in ended.out
        alone = only(
            answer(*SHORT, "--dtype", "float64", "--params", f"{name}.*", "-o", f"{name}.h5")
        )
        largest = float(np.nanmax(np.abs(np.array(alone["nodes"], dtype=float))))
        for degree in range(4):
            # The same probes on the same block: products differ by roundings alone.
            apart = moments(estimate, degree) - moments(alone, degree)
            allowed = 100 * max(degree, 1) * max(alone["noise"], 1e-15) * largest**degree
            assert np.abs(apart).max() <= allowed


def test_groups_make_layers() -> None:
    found = answer(*SHORT, "--per-layer", "--group", "bias|weight")
    sizes = {estimate["layer"]: estimate["size"] for estimate in found["estimates"]}
    assert sizes == {"weight": 64 * 48 + 48 * 32 + 32 * 10, "bias": 48 + 32 + 10}
    said = refusal(*SHORT, "--per-layer", "--group", "nowhere", "-o", "other.h5")
    assert "matches none" in said


def test_bases_that_are_not_kept_orthogonal_are_labelled() -> None:
    kept = only(answer(*SHORT, "--dtype", "float64", "--reorthogonalize"))
    ended = call(*SHORT, "--dtype", "float64", "--no-reorthogonalize", "--force")
    assert ended.code == ExitCode.DONE
    said = " ".join(ended.out.split())
    assert "NOT kept orthogonal, as asked" in said
    assert "for want of memory" not in said
    found = only(answer(*SHORT, "--dtype", "float64", "--no-reorthogonalize"))
    assert found["reorthogonalized"] is False
    assert kept["reorthogonalized"] is True
    largest = float(np.nanmax(np.abs(np.array(kept["nodes"], dtype=float))))
    for degree in range(6):  # copies of a node share its weight, so that moments stay
        apart = moments(found, degree) - moments(kept, degree)
        assert np.abs(apart).max() <= 1e-9 * largest**degree


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
    ],
)
def test_contradictions_are_judged_before_anything_is_opened(
    arguments: tuple[str, ...], said: str
) -> None:
    ended = call("density", "a.pt", *arguments)
    assert ended.code == ExitCode.USAGE
    assert said in ended.err
    assert len(ended.err.splitlines()) == 1
