"""`spectrum --per-layer` from the user's seat.

Letters: P parameters, k pairs, n parameters of a block.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from curvtool.errors import ExitCode
from curvtool.results import FloatArray
from tests.cli.calls import MLP, call, left, refusal
from tests.cli.problems import write_problem

QUICK = ("spectrum", str(MLP), "--max-examples", "60", "--batch-size", "20", "-k", "3")
FILE = "digits_mlp.spectrum-layers.h5"
LAYERS = ["layers.0", "layers.1", "layers.2"]
EPS = float(np.finfo(np.float64).eps)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def answer(*arguments: str) -> dict[str, Any]:
    ended = call(*arguments, "--json", "-q")
    assert ended.code == ExitCode.DONE, ended.err
    found: dict[str, Any] = json.loads(ended.out)
    return found


def by_name(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {layer["layer"]: layer for layer in found["layers"]}


def whole_matrix(folder: Path) -> tuple[FloatArray, dict[str, slice]]:
    """H of the small problem by torch.func, shape (P, P), and the places of its tensors."""
    state = {name: t.double() for name, t in torch.load(folder / "net.pt").items()}
    data = np.load(folder / "data.npz")
    x, y = torch.from_numpy(data["x"]).double(), torch.from_numpy(data["y"])
    sizes = {name: t.numel() for name, t in state.items()}

    def loss(flat_P: Tensor) -> Tensor:
        pieces = torch.split(flat_P, list(sizes.values()))
        w = {n: p.view_as(state[n]) for n, p in zip(sizes, pieces, strict=True)}
        hidden = torch.tanh(x @ w["first.weight"].T + w["first.bias"])
        return F.cross_entropy(hidden @ w["last.weight"].T + w["last.bias"], y)

    flat_P = torch.cat([t.reshape(-1) for t in state.values()])
    H_PP: Tensor = torch.func.hessian(loss)(flat_P)
    ends = np.cumsum([0, *sizes.values()])
    places = {name: slice(ends[i], ends[i + 1]) for i, name in enumerate(sizes)}
    return H_PP.numpy(), places


def block(H: FloatArray, places: dict[str, slice], part: str) -> FloatArray:
    """Rows and columns of the tensors whose name holds `part`."""
    at = np.concatenate([np.arange(len(H))[s] for name, s in places.items() if part in name])
    return np.asarray(H[np.ix_(at, at)])


@pytest.mark.parametrize(
    ("group", "layers"), [(None, ["first", "last"]), ("weight|bias", ["weight", "bias"])]
)
def test_every_eigenvalue_is_that_of_the_block_of_another_hessian(
    here: Path, group: str | None, layers: list[str]
) -> None:
    problem = write_problem(here)
    H, places = whole_matrix(here)
    options = () if group is None else ("--group", group)
    found = answer(*problem, "--per-layer", "--all", "--vectors", "--dtype", "float64", *options)
    assert [layer["layer"] for layer in found["layers"]] == layers
    assert sum(layer["size"] for layer in found["layers"]) == len(H)
    with h5py.File("net.spectrum-layers.h5") as file:
        for i, (name, layer) in enumerate(by_name(found).items()):
            H_nn = block(H, places, name)
            # Two evaluations of the same formulas in float64, of some hundred roundings each.
            allowed = 1000 * EPS * float(np.linalg.norm(H_nn, 2)) + 1e-14
            expected = np.linalg.eigvalsh(H_nn)
            assert np.sort(layer["eigenvalues"]) == pytest.approx(expected, abs=allowed, rel=0)
            stored = file["layers"][str(i)]
            assert stored.attrs["layer"] == name
            rows, values = stored["eigenvectors"][...], stored["eigenvalues"][...]
            assert rows.shape == H_nn.shape
            identity = np.eye(len(rows))
            assert rows @ rows.T == pytest.approx(identity, abs=1000 * EPS)
            assert np.abs(rows @ H_nn - values[:, None] * rows).max() <= allowed


def test_a_block_has_the_spectrum_of_its_parameters_alone() -> None:
    found = answer(*QUICK, "--per-layer")
    layers = by_name(found)
    assert list(layers) == LAYERS
    whole = answer(*QUICK)
    for name, layer in layers.items():
        assert layer["all_converged"]
        alone = answer(*QUICK, "--params", f"{name}.*", "-o", f"{name}.h5")
        bound = np.array(layer["eigenvalue_errors"]) + np.array(alone["eigenvalue_errors"])
        apart = np.abs(np.array(layer["eigenvalues"]) - np.array(alone["eigenvalues"]))
        # Each run has its own noise, which its bounds hold; the names of glob and block agree.
        assert (apart <= bound).all(), (name, apart, bound)
        # Cauchy: no eigenvalue of a block lies outside the spectrum of the whole, whose largest in
        # magnitude is known.
        outermost = max(map(abs, whole["eigenvalues"])) + max(whole["eigenvalue_errors"])
        assert max(map(abs, layer["eigenvalues"])) <= outermost + max(layer["eigenvalue_errors"])
    assert found["hvps"] == sum(layer["hvps"] for layer in layers.values())


def test_eigenvectors_are_stored_where_they_are_asked_for() -> None:
    found = answer(*QUICK, "--per-layer", "--vectors")
    with h5py.File(FILE) as file:
        for i, layer in enumerate(found["layers"]):
            rows = file["layers"][str(i)]["eigenvectors"][...].astype(float)
            assert rows.shape == (3, layer["size"])
            # Float32 vectors: some ten roundings of their length.
            assert rows @ rows.T == pytest.approx(np.eye(3), abs=1e-5)
    assert answer(*QUICK, "--per-layer", "--force")["config"]["vectors"] is False
    with h5py.File(FILE) as file:
        assert "eigenvectors" not in file["layers"]["0"]


def test_all_blocks_are_in_one_table_and_one_file(here: Path) -> None:
    ended = call(*QUICK, "--per-layer")
    assert ended.code == ExitCode.DONE
    assert left(here) == [FILE]
    assert max(map(len, ended.out.splitlines())) <= 80
    for name in LAYERS:
        assert any(name in line and "3/3" in line for line in ended.out.splitlines()), name
    with h5py.File(FILE) as file:
        assert file.attrs["kind"] == "spectrum-layers"
        assert list(file["layers"]["layer"].asstr()) == LAYERS
    assert call("show", FILE).out == ended.out
    again = call(*QUICK, "--per-layer")
    assert again.out == ended.out
    assert "already in" in again.err


def test_a_small_block_gives_all_it_has(here: Path) -> None:
    found = answer(*write_problem(here), "--per-layer", "-k", "12")
    counts = {layer["layer"]: len(layer["eigenvalues"]) for layer in found["layers"]}
    assert counts == {"first": 12, "last": 10}  # 3 * 4 + 4 = 16 and 4 * 2 + 2 = 10 parameters


def test_spectra_of_blocks_are_none_of_the_whole() -> None:
    assert call(*QUICK, "--per-layer", "--vectors").code == ExitCode.DONE
    for command, option in (("density", "--outliers"), ("trace", "--deflate")):
        said = refusal(command, *QUICK[1:-2], option, FILE, "-o", "other.h5")
        assert "spectrum-layers" in said
    said = refusal(*QUICK, "--per-layer", "--group", "nowhere", "-o", "other.h5")
    assert "matches none" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--group", "x"), "--per-layer"),
        (("--per-layer", "--group", "("), "regular expression"),
        (("--per-layer", "--method", "power"), "--per-layer"),
        (("--per-layer", "--method", "eigsh"), "--per-layer"),
        (("--per-layer", "--all", "-k", "3"), "--top-k"),
        (("--per-layer", "--tol", "0"), "positive"),
    ],
)
def test_contradictions_are_judged_before_anything_is_opened(
    arguments: tuple[str, ...], said: str
) -> None:
    ended = call("spectrum", "a.pt", *arguments)
    assert ended.code == ExitCode.USAGE
    assert said in ended.err
    assert len(ended.err.splitlines()) == 1
